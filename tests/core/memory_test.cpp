#include "core/memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace deltaw {
namespace {

TEST(Memory, OfThisProcessGrows) {
  const int64_t before = peak_memory_bytes(), given_back = before - resident_memory_bytes();
  EXPECT_GT(before, 1 << 20);
  std::vector<char> block(static_cast<size_t>(given_back + (64 << 20)), 'x');
  EXPECT_GE(peak_memory_bytes(), before + (32 << 20)) << block[1000];
  EXPECT_GT(resident_memory_bytes(), 32 << 20);
}

TEST(Memory, OfTheMachineHoldsTheProcess) {
  EXPECT_GT(memory_bytes(), peak_memory_bytes());
}

}  // namespace
}  // namespace deltaw

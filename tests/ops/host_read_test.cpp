#include "ops/host_read.h"

#include <gtest/gtest.h>

#include <thread>

#include "deltaw/error.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

TEST(HostRead, GivesNumbersOfAnyTypeRowByRow) {
  const at::Tensor numbers = at::arange(6, at::kFloat).view({2, 3});
  EXPECT_EQ(ops::host_number(numbers[1][0]), 3);
  EXPECT_EQ(ops::host_number(at::full({1}, 0.5, at::kBFloat16)), 0.5);
  EXPECT_EQ(ops::host_integer(numbers.argmax()), 5);
  EXPECT_TRUE(ops::host_flag(numbers.ge(0).all()));
  EXPECT_EQ(ops::host_values<double>(numbers.t()), (std::vector<double>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(ops::host_values<uint8_t>(numbers.ge(4)), (std::vector<uint8_t>{0, 0, 0, 0, 1, 1}));
  EXPECT_TRUE(at::equal(ops::host_places(numbers.t().ge(4)), at::tensor({3, 5}, at::kLong)));
  EXPECT_TRUE(ops::host_copy(numbers.t()).is_contiguous());
  EXPECT_TRUE(ops::host_equal(numbers, numbers.clone()));
  EXPECT_FALSE(ops::host_equal(numbers, numbers.flatten())) << "of another shape";
}

TEST(HostRead, IsCountedInAllThreads) {
  const at::Tensor one = at::ones({1});
  const int64_t before = ops::host_reads();
  ops::host_number(one);
  std::thread([&] { ops::host_values<float>(one); }).join();
  ops::host_equal(one, one);
  ops::host_places(one);
  EXPECT_EQ(ops::host_reads() - before, 4);
}

TEST(HostRead, IsFreeOfWhatIsKnownAndRefusesAnythingElse) {
  const at::Tensor mask = at::tensor({1, 1, 0, 4}, at::kLong);
  const int64_t before = ops::host_reads();
  EXPECT_FALSE(ops::known_flag(mask.ne(0).all()));
  EXPECT_EQ(ops::known_range(mask), (std::pair<int64_t, int64_t>{0, 4}));
  EXPECT_TRUE(at::equal(ops::known_places(mask), at::tensor({0, 1, 3}, at::kLong)));
  EXPECT_EQ(ops::host_reads(), before);
  const at::Tensor elsewhere = mask.to(at::kMeta);
  EXPECT_EQ(test::error_of([&] { ops::known_flag(elsewhere.all()); }).id(), "internal.device");
  EXPECT_EQ(test::error_of([&] { ops::known_range(elsewhere); }).id(), "internal.device");
  EXPECT_EQ(test::error_of([&] { ops::known_places(elsewhere); }).id(), "internal.device");
}

}  // namespace
}  // namespace deltaw

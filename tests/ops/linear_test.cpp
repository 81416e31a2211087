// The choice between the two paths of the layer operation.
#include "ops/linear.h"

#include <gtest/gtest.h>

namespace deltaw::ops {
namespace {

TEST(FoldingIsCheaper, NeverForANarrowUpdate) {
  for (const int64_t tokens : {64, 4096, 1 << 20}) {
    EXPECT_FALSE(folding_is_cheaper(
        {.tokens = tokens, .d_in = 768, .d_out = 768, .k = 8, .trains_left = true, .trains_right = true}));
  }
}

// A square layer of width d with k = d and one frozen factor (RandLoRA): 5 d^2 T in sequence, d^2 T + 3 d^3 folded.
TEST(FoldingIsCheaper, ForRandLoraFromThreeQuartersOfTheWidthInTokens) {
  const auto folds = [](int64_t tokens) {
    return folding_is_cheaper({.tokens = tokens, .d_in = 768, .d_out = 768, .k = 768, .trains_right = true});
  };
  EXPECT_FALSE(folds(570));
  EXPECT_TRUE(folds(582));
}

}  // namespace
}  // namespace deltaw::ops

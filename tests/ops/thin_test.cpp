// Products of thin, wide and factor against at::mm in float64.
#include "ops/thin.h"

#include <gtest/gtest.h>

#include "support/compared.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

Tensor exact(const Tensor& x, const Tensor& y) {
  return at::mm(x.to(at::kDouble), y.to(at::kDouble));
}

void expect_product(const Tensor& actual, const Tensor& expected, const char* what) {
  test::expect_near(actual, expected.to(actual.scalar_type()), actual.scalar_type() == at::kFloat ? 3e-4 : 0.03, what);
}

// Columns and rows of a larger matrix, as a stack's share and a slice of a batch are.
Tensor drawn_within(int64_t rows, int64_t columns, at::ScalarType type, uint64_t seed) {
  return test::drawn({rows, columns + 3}, type, seed).narrow(1, 2, columns);
}

TEST(Thin, AreTheProducts) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const int64_t tokens : {1, 5, 31, 512, 1537}) {
      for (const int64_t k : {0, 1, 8, 13, 24, 32, 33}) {
        for (const int64_t n : {32, 96, 40, 1024}) {
          SCOPED_TRACE(testing::Message() << tokens << " tokens, k " << k << ", n " << n << ", " << type);
          const Tensor thin = drawn_within(tokens, k, type, 1), wide = drawn_within(tokens, n, type, 2);
          const Tensor factor = test::drawn({n, k}, type, 3).t(), bias = test::drawn({n}, type, 4);
          const Tensor product = exact(thin, factor);
          expect_product(thin_of(wide, factor), exact(wide, factor.t()), "thin");
          expect_product(factor_of(thin, wide), exact(thin.t(), wide), "factor");
          expect_product(wide_of(thin, factor), product, "wide");
          expect_product(wide_of(thin, factor, bias), product + bias.to(at::kDouble), "wide and bias");
          Tensor sum = wide.clone();
          add_wide(sum, thin, factor);
          expect_product(sum, product + wide.to(at::kDouble), "sum");
          const ThinAndFactor both = thin_and_factor_of(wide, factor, thin);
          EXPECT_TRUE(both.thin.equal(thin_of(wide, factor)));
          EXPECT_TRUE(both.factor.equal(factor_of(thin, wide)));
        }
      }
    }
  }
}

TEST(Thin, AreTheSameInOneThreadAndTwo) {
  const Tensor thin = test::drawn({3000, 8}, at::kFloat, 1), wide = test::drawn({3000, 64}, at::kFloat, 2);
  const Tensor factor = test::drawn({8, 64}, at::kFloat, 3);
  const auto all = [&] {
    const ThinAndFactor both = thin_and_factor_of(wide, factor, thin);
    return std::vector<Tensor>{both.thin, both.factor, wide_of(thin, factor)};
  };
  const std::vector<Tensor> one = test::in_threads(1, all), two = test::in_threads(2, all);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(one[i].equal(two[i])) << i;
}

}  // namespace
}  // namespace deltaw::ops

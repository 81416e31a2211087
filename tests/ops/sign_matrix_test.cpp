// Products that skip zeros against at::mm in float64.
#include "ops/sign_matrix.h"

#include <gtest/gtest.h>

#include "support/compared.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

// Entries of `magnitude`, one in `sparsity`, of either sign.
Tensor signs(int64_t rows, int64_t columns, double sparsity, double magnitude) {
  const Tensor u = test::drawn({rows, columns}, at::kFloat, 3).abs();
  const Tensor chosen = u.lt(0.6745 * 2 / sparsity / 1.07).to(at::kFloat);  // near zero the density is 0.8 / 2
  return chosen * test::drawn({rows, columns}, at::kFloat, 4).sign() * magnitude;
}

void expect_product(const Tensor& a, const Tensor& b, const char* what) {
  const Tensor expected = at::mm(a.to(at::kDouble), b.to(at::kDouble)).to(a.scalar_type());
  const Tensor actual = product(a, b);
  EXPECT_TRUE(actual.is_contiguous()) << what;
  test::expect_near(actual, expected, 1e-4, what);
}

TEST(SignMatrix, GivesTheProduct) {
  for (const double sparsity : {3.0, 20.0}) {
    for (const auto& [rows, columns, n] : {std::tuple{96, 64, 128}, {64, 200, 144}, {70, 65, 40}, {130, 128, 16}}) {
      const Tensor few = signs(rows, columns, sparsity, 1.7);
      const Tensor right = test::drawn({columns, n}, at::kFloat, 1), left = test::drawn({n, rows}, at::kFloat, 2);
      expect_product(few, right, "few entries on the left");
      expect_product(few, right.t().contiguous().t(), "a right side that lies otherwise");
      expect_product(left, few, "on the right");
      expect_product(few.t(), left.t(), "transposed");
      expect_product(right.t(), few.t(), "transposed, on the right");
    }
  }
}

TEST(SignMatrix, IsNotWhatOnlyBeginsLikeOne) {
  Tensor other = signs(80, 96, 20, 1);
  other[40][3] = 0.5;
  expect_product(other, test::drawn({96, 64}, at::kFloat, 1), "another magnitude");
  expect_product(at::cat({signs(1, 96, 20, 1), at::ones({79, 96})}), test::drawn({96, 64}, at::kFloat, 1), "dense");
  expect_product(signs(80, 96, 20, 1).to(at::kDouble), test::drawn({96, 64}, at::kDouble, 1), "float64");
}

TEST(SignMatrix, ForgetsMemoryThatIsGone) {
  const Tensor right = test::drawn({96, 64}, at::kFloat, 1);
  for (int i = 0; i < 20; ++i) {  // the allocator gives the same memory again
    const Tensor few = signs(80, 96, 20, 1 + i);
    expect_product(few, right, "anew");
  }
}

TEST(SignMatrix, IsTheSameInOneThreadAndTwo) {
  const Tensor few = signs(128, 96, 20, 1), right = test::drawn({96, 64}, at::kFloat, 1);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor one = product(few, right);
  at::set_num_threads(2);
  EXPECT_TRUE(one.equal(product(few, right)));
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace deltaw::ops

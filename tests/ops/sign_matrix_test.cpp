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

Tensor exact(const Tensor& a, const Tensor& b) {
  return at::mm(a.to(at::kDouble), b.to(at::kDouble)).to(at::kFloat);
}

// Both products of a matrix that is found.
void expect_products(const Tensor& few, const char* what) {
  const auto found = SignMatrix::find(few);
  ASSERT_TRUE(found) << what;
  for (const int64_t n : {128, 40, 16, 7}) {
    const Tensor right = test::drawn({few.size(1), n}, at::kFloat, 1),
                 left = test::drawn({n, few.size(0)}, at::kFloat, 2);
    test::expect_near(found->times(right), exact(few, right), 1e-4, what);
    test::expect_near(found->transpose_times(left.t()), exact(few.t(), left.t()), 1e-4, what);
  }
}

TEST(SignMatrix, GivesBothProducts) {
  for (const auto& [rows, columns] : {std::pair{96, 64}, {64, 200}, {70, 65}, {130, 128}}) {
    expect_products(signs(rows, columns, 20, 1.7), "a whole matrix");
    expect_products(signs(rows + 10, columns + 30, 20, 0.3).narrow(0, 5, rows).narrow(1, 20, columns), "a part of one");
  }
}

TEST(SignMatrix, IsNotFoundInOthers) {
  Tensor other = signs(80, 96, 20, 1);
  other[40][3] = 0.5;
  EXPECT_FALSE(SignMatrix::find(other)) << "another magnitude";
  EXPECT_FALSE(SignMatrix::find(at::cat({signs(4, 96, 20, 1), at::ones({76, 96})}))) << "dense";
  EXPECT_FALSE(SignMatrix::find(signs(80, 96, 3, 1))) << "a third of the entries";
  EXPECT_FALSE(SignMatrix::find(at::zeros({80, 96}))) << "none";
  EXPECT_FALSE(SignMatrix::find(signs(80, 96, 20, 1).to(at::kDouble))) << "float64";
  EXPECT_FALSE(SignMatrix::find(signs(80, 96, 20, 1).t())) << "a transpose";
}

TEST(SignMatrix, ForgetsMemoryThatIsGone) {
  for (int i = 0; i < 20; ++i) {  // the allocator gives the same memory again
    expect_products(signs(80, 96, 20, 1 + i), "anew");
  }
}

TEST(SignMatrix, IsTheSameInOneThreadAndTwo) {
  const Tensor few = signs(128, 96, 20, 1), right = test::drawn({96, 64}, at::kFloat, 1);
  const auto found = SignMatrix::find(few);
  ASSERT_TRUE(found);
  const auto product = [&] { return found->times(right); };
  EXPECT_TRUE(test::in_threads(1, product).equal(test::in_threads(2, product)));
}

}  // namespace
}  // namespace deltaw::ops

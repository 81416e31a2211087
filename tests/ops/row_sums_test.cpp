// Sums over rows against at::sum in float64.
#include "ops/row_sums.h"

#include <gtest/gtest.h>

#include "support/compared.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

TEST(RowSums, AreTheSums) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const int64_t rows : {0, 1, 7, 3000}) {
      for (const int64_t n : {1, 33, 1024}) {
        SCOPED_TRACE(testing::Message() << rows << " rows, n " << n << ", " << type);
        const Tensor x = test::drawn({rows, n + 3}, type, 1).narrow(1, 2, n), y = test::drawn({n, rows}, type, 2).t();
        const Tensor wide = x.to(at::kDouble);
        const at::ScalarType result = type == at::kDouble ? at::kDouble : at::kFloat;
        test::expect_near(sum_of_rows(x), wide.sum(0).to(result), 2e-4, "rows");
        test::expect_near(sum_of_products(x, y), (wide * y.to(at::kDouble)).sum(0).to(result), 2e-4, "products");
      }
    }
  }
}

TEST(RowSums, AreTheSameInOneThreadAndTwo) {
  const Tensor x = test::drawn({5000, 96}, at::kFloat, 1), y = test::drawn({5000, 96}, at::kFloat, 2);
  const auto sum = [&] { return sum_of_products(x, y); };
  EXPECT_TRUE(test::in_threads(1, sum).equal(test::in_threads(2, sum)));
}

}  // namespace
}  // namespace deltaw::ops

// Products of thin matrices against at::mm in float64.
#include "ops/tiles.h"

#include <gtest/gtest.h>

#include "support/compared.h"

namespace deltaw::ops {
namespace {

TEST(ThinProduct, IsTheProduct) {
  for (const int64_t tokens : {1, 31, 512, 1537, 20000}) {
    for (const int64_t k : {0, 1, 8, 13, 64, 65}) {
      for (const int64_t n : {32, 96, 40}) {
        const at::Tensor thin = test::drawn({tokens, k + 3}, at::kFloat, 1).narrow(1, 2, k);
        const at::Tensor wide = test::drawn({tokens, n}, at::kFloat, 2);
        const at::Tensor expected = at::mm(thin.to(at::kDouble).t(), wide.to(at::kDouble)).to(at::kFloat);
        test::expect_near(thin_product(thin, wide), expected, 3e-4, "thin");
      }
    }
  }
}

TEST(ThinProduct, IsTheSameInOneThreadAndTwo) {
  const at::Tensor thin = test::drawn({3000, 8}, at::kFloat, 1), wide = test::drawn({3000, 64}, at::kFloat, 2);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = thin_product(thin, wide);
  at::set_num_threads(2);
  const at::Tensor two = thin_product(thin, wide);
  at::set_num_threads(threads);
  EXPECT_TRUE(one.equal(two));
}

}  // namespace
}  // namespace deltaw::ops

// What a start from data is told of the base model.
#include "adapt/observe.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/allocations.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

std::vector<CalibrationBatch> two_batches() {
  std::vector<CalibrationBatch> batches;
  for (int64_t i = 0; i < 2; ++i) {
    const Tensor ids = at::arange(i, 12 + i, at::kLong).view({3, 4});
    batches.push_back(test::calibration_batch({.input_ids = ids, .attention_mask = at::ones_like(ids)}, at::ones({3})));
  }
  return batches;
}

TEST(Observe, MakesMeansOfInputsWhereTheseAreAskedFor) {
  const test::TinyModel model(6, 10, at::kFloat);
  const std::vector<Observed> seen = observe(model, model.layers(), Observations::inputs, two_batches());
  ASSERT_EQ(seen.size(), 2);
  for (const Observed& layer : seen) {
    EXPECT_EQ(layer.samples, 6);
    EXPECT_EQ(layer.rows, 24);
    EXPECT_EQ(layer.mean.sizes(), at::IntArrayRef({10}));
    EXPECT_EQ(layer.second_moment.sizes(), at::IntArrayRef({10, 10}));
    EXPECT_FALSE(layer.gradient.defined());
  }
}

TEST(Observe, KeepsNoMomentsWhereGradientsAreAskedFor) {
  const int64_t d_in = 1024, bytes_of_moment = d_in * d_in * 4;
  const test::TinyModel model(4, d_in, at::kFloat);
  std::vector<Observed> seen;
  const int64_t bytes = test::CountingAllocator::instance().most_during(
      [&] { seen = observe(model, model.layers(), Observations::gradients, two_batches()); });
  EXPECT_LT(bytes, bytes_of_moment / 2);
  ASSERT_EQ(seen.size(), 2);
  EXPECT_FALSE(seen[0].second_moment.defined());
  EXPECT_EQ(seen[0].gradient.sizes(), at::IntArrayRef({4, d_in}));
  EXPECT_GT(seen[0].gradient.abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace deltaw

// What is kept between passes, and when it is not used. That it computes the formula is part of the contract.
#include "ops/fixed_updates.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/compared.h"
#include "support/golden.h"
#include "support/tiny_model.h"

namespace deltaw {
namespace {

using test::randomise;
using test::small_config;
using test::TinyModel;

constexpr int64_t kWide = 640;  // above the size that is folded for its own sake

Tensor rows(int64_t count, int64_t width) {
  return at::randn({count, width}, at::make_generator<at::CPUGeneratorImpl>(4), at::kFloat);
}

Adapter adapted(const TinyModel& model, const std::string& method, const Json& options = Json::object()) {
  Adapter adapter = Adapter::create(model, small_config(find_method(method), options), 3);
  randomise(adapter, 5, 0.1);
  return adapter;
}

TEST(FixedUpdates, KeepsNarrowFactorsBesideALargeWeight) {
  const TinyModel model(kWide, kWide, at::kFloat);
  const Adapter adapter = adapted(model, "lora", {{"r", 4}});
  const Tensor x = rows(3, kWide);
  const at::NoGradGuard no_grad;
  FixedUpdates fixed(adapter);
  Call plain{.adapter = &adapter, .path = LinearPath::sequence}, kept{.adapter = &adapter, .fixed = &fixed};
  test::expect_near(model.run(x, kept), model.run(x, plain), 1e-5, "the same products in another order");
}

TEST(FixedUpdates, FoldsWideFactors) {
  const TinyModel model(kWide, kWide, at::kFloat);
  const Adapter adapter = adapted(model, "randlora");
  const Tensor x = rows(3, kWide);
  const at::NoGradGuard no_grad;
  FixedUpdates fixed(adapter), forced(adapter);
  Call automatic{.adapter = &adapter, .fixed = &fixed};
  Call folded{.adapter = &adapter, .path = LinearPath::folded, .fixed = &forced};
  Call plain{.adapter = &adapter};
  const Tensor y = model.run(x, automatic);
  EXPECT_TRUE(y.equal(model.run(x, folded)));
  const Tensor expected = model.run(x, plain);
  EXPECT_EQ(test::differs(y, expected, 1e-4 * expected.abs().max().item<double>()), "");
}

TEST(FixedUpdates, ComputesTheMapOnce) {
  const TinyModel model(5, 7, at::kDouble);
  Adapter adapter = adapted(model, "moslora");
  const Tensor x = rows(3, 7).to(at::kDouble);
  const at::NoGradGuard no_grad;
  FixedUpdates fixed(adapter);
  Call call{.adapter = &adapter, .fixed = &fixed};
  const Tensor before = model.run(x, call);
  randomise(adapter, 6);
  EXPECT_TRUE(model.run(x, call).equal(before));
  Call fresh{.adapter = &adapter};
  EXPECT_FALSE(model.run(x, fresh).allclose(before));
}

TEST(FixedUpdates, StandAsideWhereGradientsAreRecordedAndForOtherAdapters) {
  const TinyModel model(5, 7, at::kDouble);
  Adapter adapter = adapted(model, "lora");
  const Adapter other = adapted(model, "dora");
  FixedUpdates fixed(adapter);
  Call call{.adapter = &adapter, .fixed = &fixed}, training = call, foreign = call;
  training.training = true;
  foreign.adapter = &other;
  EXPECT_FALSE(fixed.serves(call));
  model.run(rows(3, 7).to(at::kDouble), call).sum().backward();
  for (const NamedTensor& tensor : adapter.trained()) EXPECT_TRUE(tensor.value.grad().defined()) << tensor.name;
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(fixed.serves(call));
  EXPECT_FALSE(fixed.serves(training));
  EXPECT_FALSE(fixed.serves(foreign));
}

}  // namespace
}  // namespace deltaw

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/error.h"
#include "support/temporary.h"
#include "train/adamw.h"
#include "train/gradients.h"

namespace deltaw::train {
namespace {

NamedTensor leaf(const std::string& name, std::vector<double> values) {
  return {name, at::tensor(values, at::kDouble).requires_grad_(true)};
}

void set_gradient(const NamedTensor& tensor, std::vector<double> values) {
  tensor.value.mutable_grad() = at::tensor(values, at::kDouble).view_as(tensor.value);
}

void expect_near(const Tensor& tensor, const std::vector<double>& expected, double tolerance) {
  const Tensor flat = tensor.detach().flatten();
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i], tolerance) << "element " << i;
  }
}

// The numbers are those of torch.optim.AdamW(lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05) in float64, with
// the rate set to 0.1 / (t + 1) before each step and the third gradient turned round and doubled.
TEST(AdamW, TakesTheStepsOfTorch) {
  const NamedTensor weight = leaf("layer.weight", {0.5, -1.25, 2.0});
  AdamW optimizer({weight}, {.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .weight_decay = 0.05});
  const std::vector<std::vector<double>> expected = {
      {0.3978322259136213, -1.1485119047619046, 1.890066622251832},
      {0.3470037583056479, -1.0980215773809523, 1.8353747668221188},
      {0.35175397521052604, -1.1013523499941509, 1.8376542809643788},
      {0.34780751271928195, -1.0965874979356136, 1.8318434141451296},
  };
  for (size_t t = 0; t < expected.size(); ++t) {
    const double turn = t == 2 ? -2 : 1;
    set_gradient(weight, {0.3 * turn, -0.02 * turn, 1.5 * turn});
    optimizer.step(0.1 / static_cast<double>(t + 1));
    expect_near(weight.value, expected[t], 1e-14);
  }
  EXPECT_EQ(optimizer.steps(), 4);
  const std::vector<NamedTensor> state = optimizer.state();
  ASSERT_EQ(state.size(), 2u);
  EXPECT_EQ(state[0].name, "exp_avg.layer.weight");
  expect_near(state[0].value, {0.03312, -0.002208, 0.1656}, 1e-15);
  EXPECT_EQ(state[1].name, "exp_avg_sq.layer.weight");
  expect_near(state[1].value, {0.0295194375, 0.0001311975, 0.7379859375}, 1e-15);
}

TEST(AdamW, GoesOnFromItsState) {
  const NamedTensor whole = leaf("w", {1.0, -2.0}), halves = leaf("w", {1.0, -2.0});
  AdamW one({whole}, {}), first({halves}, {}), second({halves}, {});
  const auto step = [](AdamW& optimizer, const NamedTensor& tensor, double gradient) {
    set_gradient(tensor, {gradient, 0.5});
    optimizer.step(0.01);
  };
  for (const double gradient : {0.1, -0.3, 0.2}) step(one, whole, gradient);
  step(first, halves, 0.1);
  const std::vector<NamedTensor> from = first.state(), to = second.state();
  for (size_t i = 0; i < from.size(); ++i) Tensor(to[i].value).copy_(from[i].value);
  second.set_steps(first.steps());
  for (const double gradient : {-0.3, 0.2}) step(second, halves, gradient);
  EXPECT_TRUE(at::equal(whole.value, halves.value));
}

TEST(AdamW, DoesNotDecayBiasesAndNorms) {
  EXPECT_TRUE(decays("bert.encoder.layer.0.attention.self.query.lora_A.weight"));
  EXPECT_TRUE(decays("classifier.weight"));
  EXPECT_FALSE(decays("classifier.bias"));
  EXPECT_FALSE(decays("bert.embeddings.LayerNorm.weight"));
  EXPECT_FALSE(decays("model.layers.0.input_layernorm.weight"));
  EXPECT_FALSE(decays("model.norm.weight"));
  EXPECT_FALSE(decays("block.q_norm.weight"));
  EXPECT_TRUE(decays("normal.weight"));

  const NamedTensor weight = leaf("a.weight", {1.0}), bias = leaf("a.bias", {1.0});
  AdamW optimizer({weight, bias}, {.weight_decay = 0.5});
  set_gradient(weight, {0});
  set_gradient(bias, {0});
  optimizer.step(0.1);
  EXPECT_DOUBLE_EQ(weight.value.item<double>(), 0.95);
  EXPECT_DOUBLE_EQ(bias.value.item<double>(), 1.0);
}

// Norm and gradients as torch.nn.utils.clip_grad_norm_([a, b], 1.0) leaves them.
TEST(Gradients, AreClippedTogether) {
  const NamedTensor a = leaf("a", {0, 0});
  const NamedTensor b{"b", at::zeros({2, 2}, at::kDouble).requires_grad_(true)};
  set_gradient(a, {3, -4});
  set_gradient(b, {1, 2, 0, -2});
  const double norm = gradient_norm({a, b});
  EXPECT_NEAR(norm, 5.830951894845301, 1e-14);
  clip_gradients({a, b}, norm, 1.0);
  expect_near(a.value.grad(), {0.5144956671922475, -0.6859942229229966}, 1e-15);
  expect_near(b.value.grad(), {0.17149855573074915, 0.3429971114614983, 0, -0.3429971114614983}, 1e-15);
}

TEST(Gradients, BelowTheLimitStayAsTheyAre) {
  const NamedTensor a = leaf("a", {0, 0});
  set_gradient(a, {0.3, 0.1});
  clip_gradients({a}, gradient_norm({a}), 1.0);
  expect_near(a.value.grad(), {0.3, 0.1}, 0);
}

TEST(Gradients, ThatDidNotArriveAreNamed) {
  const NamedTensor a = leaf("a", {1}), b = leaf("b", {1});
  set_gradient(a, {1});
  const Error error = test::error_of([&] { check_all_reached({a, b}); });
  EXPECT_EQ(error.id(), "internal.no-gradient");
  EXPECT_EQ(error.parts().where, "tensor 'b'");
  clear_gradients({a, b});
  EXPECT_EQ(test::error_of([&] { check_all_reached({a, b}); }).parts().where, "tensor 'a'");
}

TEST(Gradients, ThatAreNoNumbersAreNamedWithTheStep) {
  const NamedTensor a = leaf("a", {1}), b = leaf("b", {1});
  set_gradient(a, {1});
  set_gradient(b, {std::nan("")});
  const Error gradient = test::error_of([&] { check_finite({a, b}, 0.5, gradient_norm({a, b}), 7); });
  EXPECT_EQ(gradient.id(), "numeric.non-finite");
  EXPECT_NE(gradient.parts().what.find("step 7"), std::string::npos);
  EXPECT_EQ(gradient.parts().where, "gradient of 'b'");
  Tensor(a.value.detach()).fill_(INFINITY);
  EXPECT_EQ(test::error_of([&] { check_finite({a, b}, INFINITY, 1, 7); }).parts().where, "tensor 'a'");
  EXPECT_NO_THROW(check_finite({a, b}, 0.5, 1, 7));
}

}  // namespace
}  // namespace deltaw::train

// Attention by blocks against the formula in float64.
#include "ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/compared.h"

namespace deltaw {
namespace {

using at::Tensor;
using test::Tensors;

struct Shape {
  int64_t batch, heads, key_heads, queries, keys, width;
};

Tensor formula(const Tensors& t, const Tensor& bias) {
  const auto wide = [](const Tensor& x) { return x.to(at::kDouble); };
  const int64_t group = t[0].size(1) / t[1].size(1);
  const Tensor k = wide(t[1]).repeat_interleave(group, 1), v = wide(t[2]).repeat_interleave(group, 1);
  Tensor scores = at::matmul(wide(t[0]), k.transpose(2, 3)) / std::sqrt(static_cast<double>(t[0].size(3)));
  if (bias.defined()) scores = scores + wide(bias);
  return at::matmul(at::softmax(scores, -1), v).to(t[0].scalar_type());
}

// q, k and v of a linear layer's output: the tokens' heads stand together.
Tensors drawn(const Shape& s, at::ScalarType type, double deviation = 1) {
  return {test::drawn({s.batch, s.queries, s.heads, s.width}, type, 1, deviation),
          test::drawn({s.batch, s.keys, s.key_heads, s.width}, type, 2, deviation),
          test::drawn({s.batch, s.keys, s.key_heads, s.width}, type, 3)};
}

Tensors by_head(const Tensors& t) {
  return {t[0].transpose(1, 2), t[1].transpose(1, 2), t[2].transpose(1, 2)};
}

Tensor attend(const Tensors& t, const ops::AttentionMask& mask, double dropout = 0) {
  Call call;
  call.training = true;
  call.seed = 3;
  const Tensors q = by_head(t);
  return ops::attention(q[0], q[1], q[2], mask, {.dropout = dropout}, call);
}

void expect_formula(const Tensors& inputs, const ops::AttentionMask& mask, const std::string& what) {
  const double share = inputs[0].scalar_type() == at::kBFloat16 ? 0.03 : 2e-5;
  const test::Run actual = test::run([&](const Tensors& t) { return Tensors{attend(t, mask)}; }, inputs);
  const test::Run expected =
      test::run([&](const Tensors& t) { return Tensors{formula(by_head(t), mask.bias)}; }, inputs);
  test::expect_near(actual.values[0], expected.values[0], share, what);
  for (size_t i = 0; i < 3; ++i) {
    test::expect_near(actual.gradients[i], expected.gradients[i], share, what + ", gradient " + std::to_string(i));
  }
  const at::NoGradGuard no_grad;
  test::expect_near(attend(inputs, mask), expected.values[0], share, what + ", unrecorded");
}

Tensor causal_bias(int64_t n) {
  return ops::bias_of(at::ones({n, n}, at::kBool).tril().view({1, 1, n, n}), at::kFloat);
}

TEST(Attention, IsTheFormulaForEveryShape) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const Shape& s : {Shape{2, 3, 3, 7, 7, 16}, Shape{1, 2, 2, 1, 33, 64}, Shape{3, 4, 2, 65, 65, 32},
                           Shape{2, 8, 1, 130, 130, 20}, Shape{1, 1, 1, 64, 200, 128}, Shape{2, 2, 2, 1, 1, 1}}) {
      expect_formula(drawn(s, type), {}, "keys " + std::to_string(s.keys));
    }
  }
}

TEST(Attention, AddsABiasOfEveryShape) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Tensors inputs = drawn({3, 4, 2, 70, 70, 32}, type);
    Tensor seen = at::ones({3, 1, 1, 70}, at::kBool);
    seen.select(0, 1).narrow(2, 50, 20).fill_(false);
    expect_formula(inputs, {.bias = ops::bias_of(seen, type)}, "padding");
    Tensor windows = at::ones({70, 70}, at::kBool).tril().triu(-9).view({1, 1, 70, 70});
    expect_formula(inputs, {.bias = ops::bias_of(windows, type)}, "a window");
    expect_formula(inputs, {.bias = test::drawn({3, 1, 70, 70}, at::kFloat, 8).to(type)}, "any numbers");
    expect_formula(inputs, {.bias = causal_bias(70).to(type), .causal = true}, "causal");
  }
}

// The rounding of inputs and outputs alone is 0.0017 of a number on average.
TEST(Attention, InBf16IsNearTheFormulaOnAverage) {
  const Tensors inputs = drawn({2, 4, 4, 128, 128, 64}, at::kBFloat16);
  Tensors wide;
  for (const Tensor& x : inputs) wide.push_back(x.to(at::kDouble));
  const test::Run actual = test::run([&](const Tensors& t) { return Tensors{attend(t, {})}; }, inputs);
  const test::Run expected = test::run([&](const Tensors& t) { return Tensors{formula(by_head(t), {})}; }, wide);
  const auto expect = [](const Tensor& a, const Tensor& e, const std::string& what) {
    const double error = ((a.to(at::kDouble) - e).norm() / e.norm()).item<double>();
    EXPECT_LT(error, 0.004) << what;
  };
  expect(actual.values[0], expected.values[0], "output");
  for (size_t i = 0; i < 3; ++i) expect(actual.gradients[i], expected.gradients[i], "gradient " + std::to_string(i));
}

TEST(Attention, TakesScoresThatFarApart) {
  const Tensors inputs = drawn({1, 2, 2, 80, 80, 32}, at::kFloat, 30);
  const Tensor out = attend(inputs, {});
  EXPECT_TRUE(at::isfinite(out).all().item<bool>());
  test::expect_near(out, formula(by_head(inputs), {}), 1e-3, "scores of some thousands");
}

TEST(Attention, IsTheSameInOneThreadAndTwo) {
  test::expect_equal_by_threads(
      [](const Tensors& t) { return Tensors{attend(t, {.bias = causal_bias(90), .causal = true}, 0.2)}; },
      drawn({2, 4, 2, 90, 90, 32}, at::kFloat));
}

TEST(Attention, DropsTheSameProbabilitiesGoingBack) {
  const Tensors inputs = drawn({2, 4, 2, 70, 70, 32}, at::kFloat);
  const auto function = [](const Tensors& t) { return Tensors{attend(t, {}, 0.3)}; };
  const test::Run run = test::run(function, inputs);
  const Tensor g = test::drawn(run.values[0].sizes(), at::kFloat, 5);  // the gradient that run() gives
  // Linear in v: <g, y> = <dv, v>.
  const auto product = [](const Tensor& a, const Tensor& b) {
    return (a.to(at::kDouble) * b.to(at::kDouble)).sum().item<double>();
  };
  EXPECT_NEAR(product(g, run.values[0]), product(run.gradients[2], inputs[2]), 1e-2);
  for (const int which : {0, 1}) {
    const Tensor direction = test::drawn(inputs[which].sizes(), at::kFloat, 11);
    const auto at_step = [&](double step) {
      Tensors moved = inputs;
      moved[which] = inputs[which] + direction * step;
      return product(g, function(moved)[0]);
    };
    const double expected = (at_step(1e-2) - at_step(-1e-2)) / 2e-2;
    EXPECT_NEAR(product(run.gradients[which], direction), expected, 0.02 * std::abs(expected) + 0.1) << which;
  }
}

TEST(Attention, DropsItsShareAndKeepsTheMean) {
  Tensors inputs = drawn({4, 4, 4, 64, 256, 32}, at::kFloat);
  inputs[0].zero_();  // equal probabilities
  inputs[2].fill_(1);
  const Tensor out = attend(inputs, {}, 0.25);
  EXPECT_NEAR(out.mean().item<double>(), 1, 5e-3);
  // Of 256 terms that are 4/3 with probability 3/4.
  EXPECT_NEAR(out.select(3, 0).std().item<double>(), std::sqrt(1.0 / 3 / 256), 3e-3);
}

}  // namespace
}  // namespace deltaw

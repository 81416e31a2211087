// Activations in one pass against ATen's, forward and backward, alone and times another tensor.
#include "ops/activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "deltaw/error.h"
#include "support/compared.h"
#include "support/gradcheck.h"

namespace deltaw {
namespace {

using at::Tensor;
using ops::Activation;
using test::Tensors;

struct Named {
  const char* name;
  Tensor (*plain)(const Tensor&);
};
const Named kActivations[] = {
    {"gelu", [](const Tensor& x) { return at::gelu(x); }},
    {"gelu_python", [](const Tensor& x) { return at::gelu(x); }},
    {"gelu_new", [](const Tensor& x) { return at::gelu(x, "tanh"); }},
    {"gelu_fast", [](const Tensor& x) { return at::gelu(x, "tanh"); }},
    {"gelu_pytorch_tanh", [](const Tensor& x) { return at::gelu(x, "tanh"); }},
    {"quick_gelu", [](const Tensor& x) { return x * at::sigmoid(x * 1.702); }},
    {"relu", [](const Tensor& x) { return at::relu(x); }},
    {"silu", [](const Tensor& x) { return at::silu(x); }},
    {"swish", [](const Tensor& x) { return at::silu(x); }},
    {"tanh", [](const Tensor& x) { return at::tanh(x); }},
};

test::Function alone(const Activation& act) {
  return [act](const Tensors& in) { return Tensors{act(in[0])}; };
}
test::Function gated(const Activation& act) {
  return [act](const Tensors& in) { return Tensors{act.gated(in[0], in[1])}; };
}
test::Function alone(Tensor (*act)(const Tensor&)) {
  return [act](const Tensors& in) { return Tensors{act(in[0])}; };
}
test::Function gated(Tensor (*act)(const Tensor&)) {
  return [act](const Tensors& in) { return Tensors{act(in[0]) * in[1]}; };
}

// In float64 the formulas are exact; float32 must be within its roundings of them on all of the range that matters.
TEST(Activation, InFloat32IsExactToItsRoundings) {
  const Tensor x = at::arange(-10, 10, 1e-4, at::kDouble);
  for (const Named& named : kActivations) {
    const Activation act(named.name);
    const Tensor narrow = x.to(at::kFloat).requires_grad_(), wide = narrow.detach().to(at::kDouble).requires_grad_();
    const Tensor y = act(narrow), expected = named.plain(wide);
    y.sum().backward();
    expected.sum().backward();
    EXPECT_TRUE(at::allclose(y.to(at::kDouble), expected, 1e-6, 2e-7)) << named.name;
    EXPECT_TRUE(at::allclose(narrow.grad().to(at::kDouble), wide.grad(), 2e-6, 4e-7)) << named.name;
  }
}

TEST(Activation, OfTinyNumbersKeepsTheirDigits) {
  const Tensor x = at::logspace(-30, -2, 200, 10, at::kFloat);
  for (const Named& named : kActivations) {
    for (const Tensor& signed_x : {x, -x}) {
      const Tensor expected = named.plain(signed_x.to(at::kDouble));
      EXPECT_TRUE(at::allclose(Activation(named.name)(signed_x).to(at::kDouble), expected, 1e-6, 0)) << named.name;
    }
  }
}

TEST(Activation, OfHugeNumbersAndOfNone) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const Named& named : kActivations) {
    const Activation act(named.name);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const Tensor x = at::tensor({1e4, -1e4, 1e30, -1e30, 3e38, -3e38, 0.0}).to(type).requires_grad_();
      const Tensor y = act(x), expected = named.plain(x.detach().to(at::kDouble)).to(type);
      EXPECT_TRUE(at::allclose(y, expected, 1e-6, 1e-6)) << named.name;
      y.sum().backward();
      EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << named.name;
      EXPECT_TRUE(act(at::tensor({nan}).to(type)).isnan().all().item<bool>()) << named.name;
      const Tensor end = at::tensor({inf}).to(type);  // in float32 ATen's gelu of it is NaN
      EXPECT_TRUE(act(end).equal(named.plain(end.to(at::kDouble)).to(type))) << named.name;
      EXPECT_LE(std::abs(act(-end).item<float>()), 1) << named.name;  // of most 0, where formulas have 0 * inf
    }
  }
}

TEST(Activation, IsAtens) {
  for (const Named& named : kActivations) {
    const Activation act(named.name);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      for (const std::vector<int64_t>& shape :
           {std::vector<int64_t>{}, {1}, {0, 7}, {3, 7}, {2, 5, 33}, {9, 385}, {3, 1025}}) {
        const Tensors in{test::drawn(shape, type, 1, 2), test::drawn(shape, type, 2)};
        const std::string what = std::string(named.name) + " " + toString(type);
        test::expect_alike(alone(act), alone(named.plain), {in[0]}, test::tolerance(type), what);
        test::expect_alike(gated(act), gated(named.plain), in, test::tolerance(type), what + " gated");
      }
    }
  }
}

TEST(Activation, RoundsBeforeItMultiplies) {
  const Tensor x = test::drawn({64, 128}, at::kBFloat16, 1, 2), up = test::drawn({64, 128}, at::kBFloat16, 2);
  for (const Named& named : kActivations) {
    const Activation act(named.name);
    EXPECT_TRUE(act.gated(x, up).equal(act(x) * up)) << named.name;
  }
}

TEST(Activation, TakesRowsWithGapsAndTransposedOnes) {
  const Activation act("silu");
  const Tensor gate_up = test::drawn({2, 50, 2 * 1500}, at::kFloat, 3);
  const auto halves = [](const test::Function& function) {
    return [function](const Tensors& in) { return function(in[0].chunk(2, -1)); };
  };
  test::expect_alike(halves(gated(act)), halves(gated(kActivations[7].plain)), {gate_up}, 1e-6, "halves");
  const auto crossed = [](const test::Function& function) {
    return [function](const Tensors& in) { return function({in[0].t(), in[1]}); };
  };
  const Tensors in{test::drawn({30, 20}, at::kFloat, 1), test::drawn({20, 30}, at::kFloat, 2)};
  test::expect_alike(crossed(gated(act)), crossed(gated(kActivations[7].plain)), in, 1e-6, "transposed");
}

TEST(Activation, WithoutAutogradGivesTheSame) {
  for (const Named& named : kActivations) {
    const Activation act(named.name);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const Tensor x = test::drawn({7, 300}, type, 1), up = test::drawn({7, 300}, type, 2);
      const Tensor dy = test::drawn({7, 300}, type, 3);
      const Tensor leaf_x = x.detach().requires_grad_(), leaf_up = up.detach().requires_grad_();
      const Tensor y = act.gated(leaf_x, leaf_up);
      y.backward(dy);
      const Activation::Backward found = act.backward(x, up, dy);
      EXPECT_TRUE(act.value(x, up).equal(y.detach())) << named.name;
      EXPECT_TRUE(found.value.equal(y.detach())) << named.name;
      EXPECT_TRUE(found.dx.equal(leaf_x.grad())) << named.name;
      EXPECT_TRUE(found.dup.equal(leaf_up.grad())) << named.name;

      const Tensor leaf = x.detach().requires_grad_();
      act(leaf).backward(dy);
      const Activation::Backward without = act.backward(x, {}, dy);
      EXPECT_TRUE(without.value.equal(act.value(x, {}))) << named.name;
      EXPECT_TRUE(without.dx.equal(leaf.grad())) << named.name;
      EXPECT_FALSE(without.dup.defined()) << named.name;
      EXPECT_FALSE(act.value(leaf_x, leaf_up).requires_grad()) << named.name;
    }
  }
}

TEST(Activation, DoesNotDependOnTheThreads) {
  const Tensors in{test::drawn({200, 1001}, at::kFloat, 1), test::drawn({200, 1001}, at::kFloat, 2)};
  for (const Named& named : kActivations) test::expect_equal_by_threads(gated(Activation(named.name)), in);
}

TEST(Activation, InFloat64AgreesWithDifferences) {
  for (const Named& named : kActivations) {
    const Activation act(named.name);
    Tensors leaves{test::drawn({3, 4}, at::kDouble, 1).requires_grad_(),
                   test::drawn({3, 4}, at::kDouble, 2).requires_grad_()};
    const auto loss = [&] { return act.gated(leaves[0], leaves[1]).sin().sum(); };
    loss().backward();
    for (const Tensor& leaf : leaves) {
      EXPECT_EQ(test::check_gradient([&] { return loss().item<double>(); }, leaf, leaf.grad()), "") << named.name;
    }
  }
}

TEST(Activation, OfAnUnknownNameIsRefused) {
  try {
    const Activation act("mish", "activation_function");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "config.unsupported");
    EXPECT_NE(std::string(error.what()).find("mish"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("activation_function"), std::string::npos);
  }
}

}  // namespace
}  // namespace deltaw

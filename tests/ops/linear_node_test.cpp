// The node of the layer operation against the formula of its contract in float64, all terms of an update together and
// each alone: values, and gradients by autograd through the formula, in every way to compute a layer.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <deque>
#include <iterator>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "ops/dropout_mask.h"
#include "ops/formed_weights.h"
#include "ops/linear/group.h"
#include "ops/quantised.h"
#include "support/gradcheck.h"

namespace deltaw::ops {
namespace {

constexpr int64_t kOut = 6, kIn = 5, kRank = 3, kTokens = 8;
constexpr double kScale = 0.7;
constexpr uint64_t kKey = 21;

Tensor drawn(at::IntArrayRef sizes, uint64_t seed) {
  return at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble);
}

// Answers with the terms that it has tensors for, the right factor through a map of its own.
class Terms final : public Method {
 public:
  explicit Terms(bool gain_on_bias) : gain_on_bias_(gain_on_bias) {}
  std::vector<Param> declare(const LayerInfo&, const BaseView&, at::Generator&) const override { return {}; }
  Update update(const LayerInfo&, const Params& params, const BaseView&) const override {
    Update update{.scale = kScale, .gain_on_bias = gain_on_bias_};
    for (const Param& param : params.all()) {
      if (param.name == "left") update.left = param.value;
      if (param.name == "middle") update.middle = param.value;
      if (param.name == "right") update.right = param.trained ? param.value.sin() : param.value;
      if (param.name == "dense") update.dense = param.value;
      if (param.name == "bias") update.bias = param.value;
      if (param.name == "out") update.out_gain = param.value;
      if (param.name == "in") update.in_gain = param.value;
    }
    return update;
  }

 private:
  bool gain_on_bias_;
};

struct Case {
  const char* name;
  const char* terms;
  const char* frozen = "";
  bool gain_on_bias = false;
  bool trains_bias = false;
  bool gain_of_zero = false;  // one of the gains on outputs is
  double dropout = 0;
};

std::set<std::string> words(const char* text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

Tensor term(const std::string& name, uint64_t seed, bool gain_of_zero) {
  if (name == "left") return drawn({kOut, kRank}, seed);
  if (name == "middle") return drawn({kRank}, seed);
  if (name == "right") return drawn({kRank, kIn}, seed);
  if (name == "dense") return drawn({kOut, kIn}, seed);
  if (name == "bias") return drawn({kOut}, seed);
  Tensor gain = drawn({name == "out" ? kOut : kIn}, seed).abs() + 0.5;
  gain[1].neg_();
  if (gain_of_zero) gain[2] = 0;
  return gain;
}

// To whole multiples of a 127th of the largest in its row.
Tensor rounded_rows(const Tensor& x) {
  const Tensor step = x.abs().amax(1, true) / 127;
  return at::where(step > 0, (x / step).round() * step, x);
}

// x W0^T and dy W0 in eight bits: W0 = diag(scales) codes, whose scales are in what is rounded.
class InInt8 : public torch::autograd::Function<InInt8> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, const Tensor& codes,
                        const Tensor& scales) {
    ctx->save_for_backward({codes, scales});
    return rounded_rows(x).mm(codes.t()) * scales;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dy) {
    const auto saved = ctx->get_saved_variables();
    return {rounded_rows(dy[0] * saved[1]).mm(saved[0]), Tensor(), Tensor()};
  }
};

// An adapted layer of its own tensors.
class Subject {
 public:
  Subject(const Case& c, uint64_t seed, const Tensor& right = {}, bool in_int8 = false)
      : method_(c.gain_on_bias), dropout_(c.dropout) {
    base_.name = "layer";
    base_.index = static_cast<int64_t>(seed);
    if (in_int8) {
      const Quantisation how{.type = QuantType::int8, .multiplies = true};
      base_.weight.quantised = std::make_shared<const BnbQuantised>(drawn({kOut, kIn}, seed), how, at::kDouble);
      base_.view = std::make_unique<BaseView>(base_.weight.quantised);
    } else {
      base_.weight.value = drawn({kOut, kIn}, seed);
      base_.view = std::make_unique<BaseView>(base_.weight.value);
    }
    bias_ = drawn({kOut}, seed + 1).requires_grad_(c.trains_bias);
    const std::set<std::string> frozen = words(c.frozen);
    std::vector<Param> params;
    for (const std::string& name : words(c.terms)) {
      const bool given = name == "right" && right.defined();
      Tensor value = given ? right : term(name, ++seed + 100, c.gain_of_zero);
      const bool trained = !given && !frozen.count(name);
      if (trained) value.requires_grad_();
      params.push_back({.name = name, .file_name = name, .value = value, .trained = trained});
    }
    adapted_ = {.info = {.name = base_.name, .d_out = kOut, .d_in = kIn},
                .base = &base_,
                .method = &method_,
                .params = Params(std::move(params))};
  }

  LayerCall call() const {
    return {.adapted = &adapted_, .base = &base_, .bias = bias_, .dropout = dropout_, .dropout_key = kKey};
  }

  // Whichever way is asked for.
  bool goes_in_sequence() const {
    return dropout_ > 0 || !has_delta(method_.update(adapted_.info, adapted_.params, *base_.view));
  }

  Tensors trained() const {
    Tensors all = adapted_.params.trained();
    if (bias_.requires_grad()) all.push_back(bias_);
    return all;
  }

  // y = (u W0^T + scale D(u) (left diag(middle) right + dense)^T) out + b', u = x in. The first product in eight bits
  // where asked for.
  Tensor formula(const Tensor& x, bool in_int8 = false) const {
    const Update update = method_.update(adapted_.info, adapted_.params, *base_.view);
    const Tensor u = update.in_gain.defined() ? x * update.in_gain : x;
    Tensor product = at::zeros({kOut, kIn}, at::kDouble), bias = bias_;
    if (update.left.defined()) {
      const Tensor middle = update.middle.defined() ? at::diag(update.middle) : at::eye(kRank, at::kDouble);
      product = product + update.left.mm(middle).mm(update.right);
    }
    if (update.dense.defined()) product = product + update.dense;
    const Tensor dropped = dropout_ > 0 ? u * dropout_mask(u.detach(), dropout_, kKey) : u;
    const Int8Weight* codes = in_int8 ? base_.weight.quantised->in_int8() : nullptr;
    const Tensor base = codes ? InInt8::apply(u, codes->codes().to(at::kDouble), codes->scales().to(at::kDouble))
                              : u.mm(base_.matrix().t());
    Tensor y = base + kScale * dropped.mm(product.t());
    if (update.out_gain.defined()) y = y * update.out_gain;
    if (update.out_gain.defined() && update.gain_on_bias) bias = bias * update.out_gain;
    return y + bias + (update.bias.defined() ? kScale * update.bias : at::zeros({kOut}, at::kDouble));
  }

 private:
  Linear base_;
  Tensor bias_;
  Terms method_;
  AdaptedLayer adapted_;
  double dropout_;
};

void expect_equal(const Tensors& actual, const Tensors& expected, const std::string& where, double share = 1e-10) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(actual[i].defined()) << where << ", tensor " << i;
    EXPECT_TRUE(actual[i].allclose(expected[i], share, share)) << where << ", tensor " << i;
  }
}

// The outputs side by side, and the gradients of `inputs` for a dy that is not the same everywhere.
Tensors with_gradients(const Tensors& outputs, const Tensors& inputs) {
  const Tensor y = at::cat(outputs, 1);
  Tensors result = torch::autograd::grad({y}, inputs, {drawn(y.sizes(), 3)});
  result.push_back(y);
  return result;
}

constexpr LinearPath kPaths[] = {LinearPath::sequence, LinearPath::folded, LinearPath::mixed};

std::string place(const std::string& name, LinearPath path) {
  return name + " on path " + std::to_string(static_cast<int>(path));
}

void check_group(const std::deque<Subject>& layers, const Input& input, const Tensor& value, const std::string& name) {
  Tensors inputs{input.x}, expected;
  if (input.up) inputs.push_back(*input.up);
  std::vector<LayerCall> calls;
  for (const Subject& layer : layers) {
    for (const Tensor& tensor : layer.trained()) inputs.push_back(tensor);
    calls.push_back(layer.call());
    expected.push_back(layer.formula(value));
  }
  const Tensors formula = with_gradients(expected, inputs);
  for (const LinearPath path : kPaths) {
    expect_equal(with_gradients(linear_node(input, calls, path, nullptr), inputs), formula, place(name, path));
  }
}

constexpr const char* kAll = "left middle right dense bias out in";

const Case kCases[] = {
    {"factors", "left right"},
    {"left frozen", "left right", "left"},
    {"right frozen", "left right", "right"},
    {"middle", "left middle right"},
    {"middle between frozen factors", "left middle right", "left right"},
    {"dense", "dense"},
    {"bias", "left right bias"},
    {"gain on outputs", "left right out", "", false, true},
    {"gain on outputs alone", "out"},
    {"gain on outputs and the bias", "left right out bias", "", true},
    {"gain on outputs and a trained bias", "left right out bias", "", true, true},
    {"gain of zero", "left right out", "", false, true, true},
    {"gain of zero on the bias", "left right out bias", "", true, true, true},
    {"gain on inputs", "left right in"},
    {"gain on inputs alone", "in"},
    {"dropout", "left right", "", false, false, false, 0.4},
    {"dropout of all", kAll, "", true, true, false, 0.4},
    {"all", kAll, "", true, true},
    {"all, gain of zero", kAll, "", true, true, true},
    {"all, not on the bias", kAll, "", false, true},
};

TEST(LinearNode, IsTheFormulaForALayerAlone) {
  for (const Case& c : kCases) {
    const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
    std::deque<Subject> layers;
    layers.emplace_back(c, 40);
    check_group(layers, {.x = x}, x, c.name);
  }
}

// Each beside one of plain factors: in sequence their right factors are stacked where they can be.
TEST(LinearNode, IsTheFormulaForLayersThatShareTheirInput) {
  for (const Case& c : kCases) {
    const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
    std::deque<Subject> layers;
    layers.emplace_back(kCases[0], 20);
    layers.emplace_back(c, 40);
    layers.emplace_back(Case{"", "left right"}, 60);
    check_group(layers, {.x = x}, x, c.name);
  }
}

TEST(LinearNode, IsTheFormulaForLayersThatShareAFrozenFactor) {
  const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_(), right = drawn({kRank, kIn}, 9);
  std::deque<Subject> layers;
  layers.emplace_back(Case{"", "left middle right"}, 20, right);
  layers.emplace_back(Case{"", "left right"}, 40);
  layers.emplace_back(Case{"", "left middle right", "left"}, 60, right);
  layers.emplace_back(Case{"", "left right out"}, 80, right);
  check_group(layers, {.x = x}, x, "a frozen factor of three");
}

TEST(LinearNode, IsTheFormulaOverAnActivation) {
  const Activation silu("silu");
  const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_(), up = drawn({kTokens, kIn}, 2).requires_grad_();
  std::deque<Subject> layers;
  layers.emplace_back(Case{"", kAll, "", true, true}, 20);
  layers.emplace_back(Case{"", "left right"}, 40);
  check_group(layers, {.x = x, .activation = &silu}, at::silu(x), "silu(x)");
  check_group(layers, {.x = x, .up = up, .activation = &silu}, at::silu(x) * up, "silu(x) up");
}

// The gradients of the method's tensors are there at the step's end, those of x and of the bias in each pass.
TEST(LinearNode, IsTheFormulaWhereOneWeightServesTwoMicroBatches) {
  for (const Case& c : kCases) {
    for (const LinearPath path : kPaths) {
      const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
      Subject layer(c, 40);
      const auto gradients = [&](const auto& forward) {
        Tensors all = layer.trained();
        all.push_back(x);
        for (const Tensor& tensor : all) tensor.mutable_grad() = Tensor();
        FormedWeights formed(2);
        for (const int64_t i : {0, 1}) {
          forward(x.narrow(0, i * kTokens / 2, kTokens / 2), formed).backward(drawn({kTokens / 2, kOut}, 5 + i));
        }
        formed.finish();
        for (Tensor& tensor : all) tensor = tensor.grad();
        return all;
      };
      const Tensors expected = gradients([&](const Tensor& part, FormedWeights&) { return layer.formula(part); });
      const Tensors actual = gradients([&](const Tensor& part, FormedWeights& formed) {
        return linear_node({.x = part}, {layer.call()}, path, &formed).front();
      });
      expect_equal(actual, expected, place(c.name, path));
    }
  }
}

// In sequence W0 is multiplied in eight bits both ways, and nothing else is: what is rounded is x and dy, once for each
// product. Where W is formed, its products are those of numbers.
TEST(LinearNode, IsTheFormulaOverCodes) {
  for (const Case& c : kCases) {
    const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
    std::deque<Subject> layers;
    layers.emplace_back(kCases[0], 20, Tensor(), true);
    layers.emplace_back(c, 40, Tensor(), true);
    Tensors inputs{x};
    std::vector<LayerCall> calls;
    for (const Subject& layer : layers) {
      for (const Tensor& tensor : layer.trained()) inputs.push_back(tensor);
      calls.push_back(layer.call());
    }
    for (const LinearPath path : kPaths) {
      Tensors expected;
      for (const Subject& layer : layers) {
        expected.push_back(layer.formula(x, path == LinearPath::sequence || layer.goes_in_sequence()));
      }
      expect_equal(with_gradients(linear_node({.x = x}, calls, path, nullptr), inputs),
                   with_gradients(expected, inputs), place(c.name, path), 1e-5);
    }
  }
}

// An update far below half a step of W0's codes: it is never added to them.
TEST(LinearNode, ShowsTheSmallestUpdateOverCodes) {
  const Tensor x = drawn({kTokens, kIn}, 1);
  const Case c{"", "left right", "left right"};
  const Subject layer(c, 20, Tensor(), true);
  const at::NoGradGuard no_grad;
  const Tensor left = layer.call().adapted->params["left"];
  const auto output = [&] { return linear_node({.x = x}, {layer.call()}, LinearPath::sequence, nullptr).front(); };
  left.mul_(1e-6);
  const Tensor with = output(), change = kScale * x.mm(layer.call().adapted->params["right"].t()).mm(left.t());
  left.zero_();
  EXPECT_TRUE((with - output()).allclose(change, 1e-3, 1e-9));
  EXPECT_GT(change.abs().max().item<double>(), 1e-7);
}

// The formula above goes through autograd; this goes through nothing.
TEST(LinearNode, HasTheGradientsOfCentralDifferences) {
  for (const LinearPath path : kPaths) {
    const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
    const Subject layer(Case{"", kAll, "", true, true}, 20);
    const Tensor weights = drawn({kTokens, kOut}, 7);
    const auto loss = [&] { return (linear_node({.x = x}, {layer.call()}, path, nullptr).front() * weights).sum(); };
    Tensors inputs = layer.trained();
    inputs.push_back(x);
    const Tensors gradients = torch::autograd::grad({loss()}, inputs);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto value = [&] { return loss().item<double>(); };
      EXPECT_EQ(test::check_gradient(value, inputs[i].detach(), gradients[i]), "") << place("tensor", path) << i;
    }
  }
}

TEST(LinearNode, GivesTheSameGradientsASecondTime) {
  for (const Case& c : kCases) {
    const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
    const Subject layer(c, 20), beside(kCases[0], 40);
    Tensors inputs = layer.trained();
    inputs.push_back(x);
    const Tensors y = linear_node({.x = x}, {layer.call(), beside.call()}, LinearPath::sequence, nullptr);
    const auto again = [&] { return torch::autograd::grad({(y[0] * y[1]).sum()}, inputs, {}, /*retain_graph=*/true); };
    const Tensors first = again();
    expect_equal(again(), first, c.name);
  }
}

// A gain keeps the layer's output, which holds the node, which must not hold the output.
TEST(LinearNode, GoesWithItsOutput) {
  for (const Case& c : kCases) {
    const Tensor x = drawn({kTokens, kIn}, 1).requires_grad_();
    const Subject layer(c, 20);
    Tensor y = linear_node({.x = x}, {layer.call()}, LinearPath::sequence, nullptr).front();
    const c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> watched(y.getIntrusivePtr());
    y = Tensor();
    EXPECT_TRUE(watched.expired()) << c.name;
  }
}

}  // namespace
}  // namespace deltaw::ops

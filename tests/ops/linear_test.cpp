// The paths of the layer operation: how one is chosen, what they lose in bf16, and gains near zero.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/linear/path.h"
#include "ops/sign_matrix.h"
#include "support/compared.h"
#include "support/golden.h"
#include "support/tiny_model.h"

namespace deltaw::ops {
namespace {

TEST(CheapestPath, IsTheSequenceForANarrowUpdate) {
  for (const int64_t tokens : {64, 4096, 1 << 20}) {
    for (const bool trains_right : {true, false}) {
      const LinearCost cost{
          .tokens = tokens, .d_in = 768, .d_out = 768, .k = 8, .trains_left = true, .trains_right = trains_right};
      EXPECT_EQ(cheapest_path(cost), LinearPath::sequence) << tokens;
    }
  }
}

// A square layer of width d with k = d and one frozen factor: 5 d^2 T in sequence, 2 d^2 T + 2 d^3 mixed, d^2 T + 3 d^3
// folded.
TEST(CheapestPath, FoldsRandLoraFromTheWidthInTokensAndMixesFromTwoThirdsOfIt) {
  const auto path = [](int64_t tokens) {
    return cheapest_path({.tokens = tokens, .d_in = 768, .d_out = 768, .k = 768, .trains_right = true});
  };
  EXPECT_EQ(path(511), LinearPath::sequence);
  EXPECT_EQ(path(513), LinearPath::mixed);
  EXPECT_EQ(path(767), LinearPath::mixed);
  EXPECT_EQ(path(769), LinearPath::folded);
}

TEST(CheapestPath, FoldsEarlierWhereZerosAreSkipped) {
  const auto folds = [](bool skips_zeros) {
    return cheapest_path({.tokens = 400,
                          .d_in = 768,
                          .d_out = 768,
                          .k = 768,
                          .trains_right = true,
                          .skips_zeros = skips_zeros}) == LinearPath::folded;
  };
  EXPECT_TRUE(folds(true));
  EXPECT_FALSE(folds(false));
}

// VeRA over a square layer of width d: 5 d k T in sequence, d^2 T + 3 d^2 k folded, 2 d k T + 2 d^2 k mixed.
TEST(CheapestPath, MixesVeraWhereTheLayerIsWiderThanItsBases) {
  const LinearCost wide{.tokens = 2048, .d_in = 768, .d_out = 768, .k = 256, .trains_left = true};
  EXPECT_EQ(cheapest_path(wide), LinearPath::mixed);
  LinearCost other = wide;
  other.d_in = other.d_out = 384;
  EXPECT_EQ(cheapest_path(other), LinearPath::folded);
  other = wide;
  other.tokens = 256;
  EXPECT_EQ(cheapest_path(other), LinearPath::sequence);
  other = wide;
  other.has_gains = true;
  EXPECT_NE(cheapest_path(other), LinearPath::mixed);
}

// The frozen factor is the left one or the right one, by the layer's shape.
TEST(SparseBases, GiveWhatTheSequenceGives) {
  for (const auto& [d_out, d_in] : {std::pair{304, 256}, {256, 304}}) {
    const test::TinyModel model(d_out, d_in, at::kFloat);
    AdapterConfig config = test::small_config(find_method("randlora"));
    config.options["very_sparse"] = true;
    Adapter adapter = Adapter::create(model, config, 3);
    const AdaptedLayer& layer = *adapter.layers().front();
    const Update update = layer.update();
    ASSERT_TRUE(SignMatrix::find(d_out > d_in ? update.left : update.right.t()));
    test::randomise(adapter, 5, 0.1);
    std::vector<Tensor> inputs = layer.params.trained();
    for (Tensor& tensor : inputs) tensor.requires_grad_();
    inputs.push_back(test::drawn({40, d_in}, at::kFloat, 4).requires_grad_());
    const auto run = [&](LinearPath path) {
      Call call{.adapter = &adapter, .path = path};
      const Tensor y = model.run(inputs.back(), call);
      std::vector<Tensor> result = torch::autograd::grad({y.sin().sum()}, inputs);
      result.push_back(y);
      return result;
    };
    const std::vector<Tensor> sequence = run(LinearPath::sequence), folded = run(LinearPath::folded);
    for (size_t i = 0; i < folded.size(); ++i) {
      const double size = sequence[i].abs().max().item<double>();
      test::expect_near(folded[i] / size, sequence[i] / size, 1e-4, "against the sequence");
    }
  }
}

// The gradients of a layer's trained tensors and of x, and y.
std::vector<Tensor> run(const MethodSpec& method, at::ScalarType type, LinearPath path) {
  const test::TinyModel model(304, 256, type);
  Adapter adapter = Adapter::create(model, test::small_config(method), 3);
  test::randomise(adapter, 5, 0.1);
  std::vector<Tensor> inputs = adapter.layers().front()->params.trained();
  for (Tensor& tensor : inputs) tensor.requires_grad_();
  inputs.push_back(test::drawn({500, 256}, type, 4).requires_grad_());
  Call call{.adapter = &adapter, .path = path};
  const Tensor y = model.run(inputs.back(), call), dy = test::drawn(y.sizes(), type, 6);
  std::vector<Tensor> result = torch::autograd::grad({y}, inputs, {dy});
  result.push_back(y);
  return result;
}

// Its products are rounded where W is: to be measured against what the type costs anyway.
TEST(Folding, LosesLittleMoreThanTheSequenceInBfloat16) {
  for (const auto& [name, bound] : {std::pair{"randlora", 0.005}, {"vera", 0.006}}) {
    const MethodSpec& method = find_method(name);
    const std::vector<Tensor> exact = run(method, at::kDouble, LinearPath::sequence);
    const std::vector<Tensor> sequence = run(method, at::kBFloat16, LinearPath::sequence);
    for (const LinearPath path : {LinearPath::folded, LinearPath::mixed}) {
      const std::vector<Tensor> formed = run(method, at::kBFloat16, path);
      for (size_t i = 0; i < exact.size(); ++i) {
        const auto error = [&](const Tensor& t) {
          return ((t.to(at::kDouble) - exact[i]).norm() / exact[i].norm()).item<double>();
        };
        const std::string where = fmt::format("{}, path {}, result {}", name, static_cast<int>(path), i);
        EXPECT_LT(error(formed[i]), 1.25 * error(sequence[i])) << where;
        EXPECT_LT(error(formed[i]), bound) << where;
      }
    }
  }
}

// A gain far from zero goes into the rows of W and is divided by going back; one near it must not be.
TEST(Gains, NearZeroAreNotDividedBy) {
  const test::TinyModel model(6, 5, at::kDouble);
  for (const double least : {0.0, 1e-12, 0.5}) {
    Adapter adapter = Adapter::create(model, test::small_config(find_method("dora")), 3);
    test::randomise(adapter, 5, 0.1);
    std::vector<Tensor> trained;
    for (NamedTensor& tensor : adapter.trained()) {
      if (tensor.name.find("magnitude") != std::string::npos) {
        const at::NoGradGuard no_grad;
        tensor.value.abs_().add_(1);
        tensor.value[2] = least;
      }
      trained.push_back(tensor.value.requires_grad_());
    }
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(4);
    const Tensor x = at::randn({7, 5}, generator, at::kDouble).requires_grad_();
    const auto run = [&](LinearPath path) {
      Call call{.adapter = &adapter, .path = path};
      const Tensor y = model.run(x, call);
      std::vector<Tensor> inputs = trained;
      inputs.push_back(x);
      std::vector<Tensor> result = torch::autograd::grad({y.sin().sum()}, inputs);
      result.push_back(y);
      return result;
    };
    const std::vector<Tensor> sequence = run(LinearPath::sequence), folded = run(LinearPath::folded);
    for (size_t i = 0; i < folded.size(); ++i) {
      EXPECT_TRUE(sequence[i].allclose(folded[i], 1e-9, 1e-11)) << least << ", tensor " << i;
    }
  }
}

}  // namespace
}  // namespace deltaw::ops

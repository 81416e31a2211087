// Attention by blocks against the formula in float64.
#include "ops/attention/attention.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>

#include "ops/dropout_mask.h"
#include "support/allocations.h"
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

void expect_formula(const Tensors& inputs, const ops::AttentionMask& mask, const Tensor& bias,
                    const std::string& what) {
  const double share = inputs[0].scalar_type() == at::kBFloat16 ? 0.03 : 2e-5;
  const test::Run actual = test::run([&](const Tensors& t) { return Tensors{attend(t, mask)}; }, inputs);
  const test::Run expected = test::run([&](const Tensors& t) { return Tensors{formula(by_head(t), bias)}; }, inputs);
  test::expect_near(actual.values[0], expected.values[0], share, what);
  for (size_t i = 0; i < 3; ++i) {
    test::expect_near(actual.gradients[i], expected.gradients[i], share, what + ", gradient " + std::to_string(i));
  }
  const at::NoGradGuard no_grad;
  test::expect_near(attend(inputs, mask), expected.values[0], share, what + ", unrecorded");
}

ops::AttentionMask causal(int64_t queries, const Tensor& documents, const Tensor& places, int64_t window = 0) {
  return {.causal = std::make_shared<ops::CausalKeys>(documents, places, queries, window)};
}

// One document of n keys.
ops::AttentionMask causal(int64_t n) {
  return causal(n, {}, at::arange(n, at::kLong).unsqueeze(0));
}

// The keys that query i of the last ones sees, one at a time.
Tensor seen_one_by_one(const Tensor& documents, const Tensor& places, int64_t queries, int64_t window) {
  const int64_t rows = documents.size(0), keys = documents.size(1), before = keys - queries;
  const auto number = [](const Tensor& x, int64_t row, int64_t key) {
    return x.accessor<int64_t, 2>()[x.size(0) == 1 ? 0 : row][key];
  };
  Tensor seen = at::zeros({rows, 1, queries, keys}, at::kBool);
  auto to = seen.accessor<bool, 4>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j <= before + i; ++j) {
        const int64_t document = number(documents, row, j);
        const int64_t back = number(places, row, before + i) - number(places, row, j);
        const bool own = document == -1 || document == number(documents, row, before + i);
        if (own && (window == 0 || back < window)) to[row][0][i][j] = true;
      }
    }
  }
  return seen;
}

TEST(Attention, IsTheFormulaForEveryShape) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const Shape& s :
         {Shape{2, 3, 3, 7, 7, 16}, Shape{1, 2, 2, 1, 33, 64}, Shape{3, 4, 2, 65, 65, 32}, Shape{2, 8, 1, 130, 130, 20},
          Shape{1, 1, 1, 64, 200, 128}, Shape{2, 2, 2, 1, 1, 1}, Shape{1, 2, 2, 100, 512, 40}}) {
      expect_formula(drawn(s, type), {}, {}, "keys " + std::to_string(s.keys));
    }
  }
}

TEST(Attention, AddsABiasOfEveryShape) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Tensors inputs = drawn({3, 4, 2, 70, 70, 32}, type);
    Tensor seen = at::ones({3, 1, 1, 70}, at::kBool);
    seen.select(0, 1).narrow(2, 50, 20).fill_(false);
    for (const Tensor& bias : {ops::bias_of(seen, type), test::drawn({3, 1, 70, 70}, at::kFloat, 8).to(type)}) {
      expect_formula(inputs, {.bias = bias}, bias, bias.size(2) == 1 ? "padding" : "any numbers");
    }
  }
}

TEST(Attention, OfACausalModelSeesItsDocumentAndItsWindow) {
  // Two virtual keys, then rows of one document, of three, and of one between padding.
  const Tensor places =
      at::cat({at::arange(2), at::arange(30) + 2, at::arange(100) + 2, at::arange(8) + 2}).unsqueeze(0);
  const Tensor of_three = at::cat({at::full({2}, -1), at::full({30}, 1), at::full({100}, 2), at::full({8}, 3)});
  const Tensor padded = at::cat({at::full({2}, -1), at::full({40}, 0), at::full({90}, 1), at::full({8}, 0)});
  const Tensor documents = at::stack({at::ones({140}, at::kLong), of_three, padded});
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const int64_t queries : {140, 138, 5, 1}) {
      for (const int64_t window : {0, 7, 64, 1000}) {
        const Tensors inputs = drawn({3, 4, 2, queries, 140, 32}, type);
        const ops::AttentionMask mask = causal(queries, documents, places, window);
        const Tensor bias = ops::bias_of(seen_one_by_one(documents, places, queries, window), at::kFloat);
        expect_formula(inputs, mask, bias, fmt::format("{} queries, window {}", queries, window));
        EXPECT_TRUE(mask.causal->bias(at::kFloat).equal(bias));
      }
    }
  }
}

// More keys than a block takes at once.
TEST(Attention, TakesManyKeysAPartAtATime) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const Shape& s : {Shape{2, 2, 1, 513, 513, 40}, Shape{1, 4, 2, 70, 1030, 20}, Shape{1, 2, 2, 300, 700, 64}}) {
      const std::string what = std::to_string(s.keys) + " keys";
      expect_formula(drawn(s, type), {}, {}, what);
      for (const int64_t rows : {int64_t{1}, s.queries}) {
        const Tensor bias = test::drawn({s.batch, 1, rows, s.keys}, at::kFloat, 8).to(type);
        expect_formula(drawn(s, type), {.bias = bias}, bias, what + ", a bias");
      }
    }
  }
}

// Of queries near the end and near the start, whose own documents begin in the first part of the keys and behind it.
TEST(Attention, OfACausalModelTakesManyKeysAPartAtATime) {
  const Tensor places = at::arange(700).unsqueeze(0);
  const Tensor one = at::ones({700}, at::kLong), late = at::cat({at::zeros({600}, at::kLong), one.narrow(0, 0, 100)});
  const Tensor padded = at::cat({at::full({2}, -1), at::zeros({610}, at::kLong), one.narrow(0, 0, 88)});
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const int64_t window : {0, 40, 300}) {
      const Tensor documents = at::stack({one, late, padded});
      const Tensor bias = ops::bias_of(seen_one_by_one(documents, places, 150, window), at::kFloat);
      expect_formula(drawn({3, 2, 1, 150, 700, 32}, type), causal(150, documents, places, window), bias,
                     fmt::format("window {}", window));
    }
    const Tensor whole = at::ones({700, 700}, at::kBool).tril().view({1, 1, 700, 700});
    expect_formula(drawn({1, 2, 1, 700, 700, 32}, type), causal(700), ops::bias_of(whole, at::kFloat), "all");
  }
}

TEST(Attention, OfACausalModelBehindAPrefixSeesAllOfIt) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Tensor one = at::ones({2, 90}, at::kLong), places = at::arange(90).unsqueeze(0);
    for (const int64_t queries : {90, 70, 2}) {
      const Tensor bias = ops::bias_of(seen_one_by_one(one, places, queries, 0), at::kFloat);
      expect_formula(drawn({2, 4, 2, queries, 90, 32}, type), causal(queries, {}, places), bias, "prefix");
    }
  }
}

TEST(Attention, OfACausalModelMakesNoMatrixOfWhatIsSeen) {
  const int64_t n = 4096;
  const Tensors inputs = drawn({1, 1, 1, n, n, 16}, at::kBFloat16);
  const Tensor documents = at::arange(n, at::kLong).div(1000, "floor").unsqueeze(0);
  const ops::AttentionMask mask = causal(n, documents, at::arange(n).unsqueeze(0));
  const int64_t bytes = test::CountingAllocator::instance().most_during([&] {
    Tensors q = inputs;
    for (Tensor& x : q) x.requires_grad_();
    attend(q, mask).sum().backward();
  });
  EXPECT_LT(bytes, n * n / 4);
}

// What hides the keys beyond a window, one at a time.
Tensor window_one_by_one(int64_t queries, int64_t keys, int64_t window) {
  Tensor seen = at::zeros({1, 1, queries, keys}, at::kBool);
  auto to = seen.accessor<bool, 4>();
  const int64_t before = keys - queries;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) to[0][0][i][j] = j < before || std::abs(before + i - j) <= window;
  }
  return ops::bias_of(seen, at::kFloat);
}

TEST(Attention, SeesAWindowOnEitherSide) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const int64_t n : {1, 7, 64, 65, 200}) {
      Tensor seen = at::ones({3, 1, 1, n}, at::kBool);
      for (int64_t key = 3; key < n; key += 7) seen[1][0][0][key] = false;
      for (const int64_t window : {1, 5, 63, 64, 1000}) {
        const Tensors inputs = drawn({3, 4, 2, n, n, 32}, type);
        const Tensor hidden = ops::bias_of(seen, type), local = window_one_by_one(n, n, window);
        const std::string what = fmt::format("{} keys, window {}", n, window);
        expect_formula(inputs, {.window = window}, local, what);
        expect_formula(inputs, {.bias = hidden, .window = window}, at::minimum(hidden.to(at::kFloat), local), what);
      }
    }
  }
}

TEST(Attention, SeesAWindowOfManyKeys) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    expect_formula(drawn({2, 2, 1, 900, 900, 32}, type), {.window = 270}, window_one_by_one(900, 900, 270), "270");
  }
}

TEST(Attention, SeesAllOfAPrefixBesideItsWindow) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const int64_t queries : {90, 1}) {
      const Tensor bias = window_one_by_one(queries, queries + 5, 8);
      expect_formula(drawn({2, 4, 2, queries, queries + 5, 32}, type), {.window = 8}, bias, "prefix");
    }
  }
}

TEST(Attention, ReadsNoKeysBeyondTheWindowsOfABlock) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    Tensors inputs = drawn({1, 2, 1, 512, 512, 32}, type);
    inputs[2].select(1, 300).fill_(std::nan(""));  // whose product with any probability shows
    const Tensor finite = at::isfinite(attend(inputs, {.window = 8})).all(-1).all(1)[0];
    EXPECT_TRUE(finite.narrow(0, 0, 256).all().item<bool>());
    EXPECT_FALSE(finite.narrow(0, 292, 17).any().item<bool>());  // that see it
    EXPECT_TRUE(finite.narrow(0, 320, 192).all().item<bool>());
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
  for (const int64_t keys : {80, 600}) {
    const Tensors inputs = drawn({1, 2, 2, 80, keys, 32}, at::kFloat, 30);
    const Tensor out = attend(inputs, {});
    EXPECT_TRUE(at::isfinite(out).all().item<bool>());
    test::expect_near(out, formula(by_head(inputs), {}), 1e-3, "scores of some thousands");
  }
}

TEST(Attention, IsTheSameInOneThreadAndTwo) {
  for (const int64_t n : {90, 600}) {
    for (const ops::AttentionMask& mask : {causal(n), ops::AttentionMask{.window = 9}}) {
      test::expect_equal_by_threads([&](const Tensors& t) { return Tensors{attend(t, mask, 0.2)}; },
                                    drawn({2, 4, 2, n, n, 32}, at::kFloat));
    }
  }
}

void expect_the_masks_of_the_output_in_the_gradients(const ops::AttentionMask& mask, int64_t n = 70) {
  const Tensors inputs = drawn({2, 4, 2, n, n, 32}, at::kFloat);
  const auto function = [&](const Tensors& t) { return Tensors{attend(t, mask, 0.3)}; };
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

TEST(Attention, DropsTheSameProbabilitiesGoingBack) {
  expect_the_masks_of_the_output_in_the_gradients({});
  expect_the_masks_of_the_output_in_the_gradients({.window = 9});
  expect_the_masks_of_the_output_in_the_gradients({}, 600);
}

TEST(Attention, DropsItsShareAndKeepsTheMean) {
  Tensors inputs = drawn({4, 4, 4, 64, 256, 32}, at::kFloat);
  inputs[0].zero_();  // equal probabilities
  inputs[2].fill_(1);
  const Tensor out = attend(inputs, {}, 0.25);
  EXPECT_NEAR(out.mean().item<double>(), 1, 5e-3);
  // Of 256 terms that are 4/3 with probability 3/4.
  EXPECT_NEAR(out.select(3, 0).std().item<double>(), std::sqrt(1.0 / 3 / 256), 3e-3);
  // Of twice as many, were each mask drawn once.
  Tensors many = drawn({4, 4, 4, 64, 1024, 32}, at::kFloat);
  many[0].zero_();
  many[2].fill_(1);
  EXPECT_NEAR(attend(many, {}, 0.25).select(3, 0).std().item<double>(), std::sqrt(1.0 / 3 / 1024), 2e-3);
}

// Soft caps, and float64, which no kernel has: the mask is that of the call's next key.
TEST(Attention, WithoutAKernelDropsProbabilitiesToo) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Tensors in = by_head(drawn({2, 4, 2, 9, 9, 8}, type));
    for (const double softcap : {0.0, 2.0}) {
      if (softcap == 0 && type == at::kFloat) continue;
      Tensor scores = at::matmul(in[0], in[1].repeat_interleave(2, 1).transpose(2, 3)) / std::sqrt(8.0);
      if (softcap > 0) scores = softcap * at::tanh(scores / softcap);
      const Tensor probabilities = at::softmax(scores, -1), v = in[2].repeat_interleave(2, 1);
      Call call{.training = true, .seed = 3}, keys = call, still;
      const Tensor mask = ops::dropout_mask(probabilities, 0.3, keys.next_key());
      const auto attended = [&](Call& own) {
        return ops::attention(in[0], in[1], in[2], {}, {.softcap = softcap, .dropout = 0.3}, own);
      };
      const std::string what = fmt::format("{}, cap {}", toString(type), softcap);
      test::expect_near(attended(call), at::matmul(probabilities * mask, v), 1e-5, what);
      test::expect_near(attended(still), at::matmul(probabilities, v), 1e-5, what + ", not in training");
    }
  }
}

}  // namespace
}  // namespace deltaw

// Attention that tells distances, by blocks and as it is written, against the formula one query and key at a time.
#include "ops/attention/disentangled.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/allocations.h"
#include "support/compared.h"

namespace deltaw {
namespace {

using at::Tensor;
using test::Tensors;

struct Shape {
  int64_t batch, heads, queries, keys, width, vectors;
};

// Which vectors of distances there are.
struct Terms {
  bool keys, queries;
};

// q, k, v as linear layers give them, the vectors' keys and queries.
Tensors drawn(const Shape& s, at::ScalarType type) {
  return {test::drawn({s.batch, s.queries, s.heads, s.width}, type, 1),
          test::drawn({s.batch, s.keys, s.heads, s.width}, type, 2),
          test::drawn({s.batch, s.keys, s.heads, s.width}, type, 3),
          test::drawn({s.vectors, s.heads, s.width}, type, 4), test::drawn({s.vectors, s.heads, s.width}, type, 5)};
}

// The vector of each distance key - query: far ones share, and the order is none that a slip could keep.
Tensor vector_of(const Shape& s) {
  const Tensor distance = at::arange(2 * s.keys - 1, at::kLong);
  return distance.mul(7).add(3).remainder(s.vectors);
}

Tensor attend(const Tensors& t, const Shape& s, const Terms& terms, const Tensor& bias, double dropout = 0) {
  Call call;
  call.training = true;
  call.seed = 3;
  const ops::DistanceVectors distances{
      .keys = terms.keys ? t[3] : Tensor(), .queries = terms.queries ? t[4] : Tensor(), .vector_of = vector_of(s)};
  const auto by_head = [](const Tensor& x) { return x.transpose(1, 2); };
  return ops::disentangled_attention(by_head(t[0]), by_head(t[1]), by_head(t[2]), distances, {.bias = bias},
                                     {.scale = 0.2, .dropout = dropout}, call);
}

// Each query and key by itself; in float64.
Tensor formula(const Tensors& t, const Shape& s, const Terms& terms, const Tensor& bias) {
  Tensors wide;
  for (const Tensor& x : t) wide.push_back(x.to(at::kDouble));
  const Tensor which = vector_of(s);
  Tensors rows;
  for (int64_t i = 0; i < s.queries; ++i) {
    const Tensor q = wide[0].select(1, i);  // [batch, heads, width]
    Tensors scores;
    for (int64_t j = 0; j < s.keys; ++j) {
      const Tensor k = wide[1].select(1, j);
      const auto vector = which[j - i + s.keys - 1].item<int64_t>();
      Tensor score = (q * k).sum(-1);
      if (terms.keys) score = score + (q * wide[3].select(0, vector)).sum(-1);
      if (terms.queries) score = score + (k * wide[4].select(0, vector)).sum(-1);
      scores.push_back(score);
    }
    rows.push_back(at::stack(scores, -1));
  }
  Tensor scores = at::stack(rows, 2) * 0.2;
  if (bias.defined()) scores = scores + bias.to(at::kDouble);
  return at::matmul(at::softmax(scores, -1), wide[2].transpose(1, 2)).to(t[0].scalar_type());
}

// The third and later keys of the first row are padding.
Tensor padding_of(const Shape& s, at::ScalarType type) {
  Tensor seen = at::ones({s.batch, 1, 1, s.keys}, at::kBool);
  if (s.keys > 2) seen.select(0, 0).narrow(2, 2, s.keys - 2).fill_(false);
  return ops::bias_of(seen, type);
}

void expect_formula(const Shape& s, at::ScalarType type, const Terms& terms, const Tensor& bias) {
  const double share = type == at::kBFloat16 ? 0.04 : type == at::kFloat ? 5e-5 : 1e-10;
  const std::string what = fmt::format("{} queries, {} keys, {}", s.queries, s.keys, at::toString(type));
  Tensors inputs = drawn(s, type);
  if (!terms.queries) inputs.pop_back();
  if (!terms.keys) inputs.erase(inputs.begin() + 3);
  const auto whole = [&](const Tensors& t) {
    Tensors all = t;
    if (!terms.keys) all.insert(all.begin() + 3, Tensor(at::zeros({1, s.heads, s.width}, t[0].options())));
    if (!terms.queries) all.push_back(at::zeros({1, s.heads, s.width}, t[0].options()));
    return all;
  };
  const test::Run actual =
      test::run([&](const Tensors& t) { return Tensors{attend(whole(t), s, terms, bias)}; }, inputs);
  const test::Run expected =
      test::run([&](const Tensors& t) { return Tensors{formula(whole(t), s, terms, bias)}; }, inputs);
  test::expect_near(actual.values[0], expected.values[0], share, what);
  for (size_t i = 0; i < inputs.size(); ++i) {
    test::expect_near(actual.gradients[i], expected.gradients[i], share, fmt::format("{}, gradient {}", what, i));
  }
  const at::NoGradGuard no_grad;
  test::expect_near(attend(whole(inputs), s, terms, bias), expected.values[0], share, what + ", unrecorded");
}

class Disentangled : public testing::TestWithParam<at::ScalarType> {};

TEST_P(Disentangled, IsTheFormulaForEveryShape) {
  for (const Shape& s : {Shape{2, 3, 7, 7, 16, 5}, Shape{1, 2, 33, 33, 20, 40}, Shape{3, 2, 65, 65, 8, 9},
                         Shape{9, 1, 18, 18, 4, 35}, Shape{1, 1, 1, 1, 3, 1}}) {
    expect_formula(s, GetParam(), {true, true}, {});
  }
}

TEST_P(Disentangled, TakesOneTermAlone) {
  const Shape s{2, 2, 37, 37, 16, 11};
  expect_formula(s, GetParam(), {true, false}, {});
  expect_formula(s, GetParam(), {false, true}, {});
}

TEST_P(Disentangled, HasQueriesOfTheFirstKeysAlone) {
  for (const int64_t queries : {1, 2, 21}) expect_formula({2, 2, queries, 40, 16, 70}, GetParam(), {true, true}, {});
}

TEST_P(Disentangled, LeavesPaddingOut) {
  const Shape s{3, 2, 35, 35, 16, 20};
  expect_formula(s, GetParam(), {true, true}, padding_of(s, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Types, Disentangled, testing::Values(at::kFloat, at::kBFloat16, at::kDouble),
                         [](const auto& i) { return std::string(at::toString(i.param)); });

TEST(Disentangled, WithoutVectorsIsAttention) {
  const Shape s{2, 3, 20, 20, 16, 4};
  const Tensors t = drawn(s, at::kFloat);
  Call call;
  const Tensor plain =
      ops::attention(t[0].transpose(1, 2), t[1].transpose(1, 2), t[2].transpose(1, 2), {}, {.scale = 0.2}, call);
  EXPECT_TRUE(attend(t, s, {false, false}, {}).equal(plain));
}

TEST(Disentangled, IsTheSameInOneThreadAndTwo) {
  const Shape s{11, 3, 70, 70, 16, 30};
  test::expect_equal_by_threads(
      [&](const Tensors& t) {
        return Tensors{attend(t, s, {true, true}, {}, 0.2)};
      },
      drawn(s, at::kFloat));
}

TEST(Disentangled, DropsTheSameProbabilitiesGoingBack) {
  const Shape s{2, 3, 70, 70, 16, 30};
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const Tensors inputs = drawn(s, type);
    const auto function = [&](const Tensors& t) { return Tensors{attend(t, s, {true, true}, {}, 0.3)}; };
    const test::Run run = test::run(function, inputs);
    const Tensor g = test::drawn(run.values[0].sizes(), type, 5);  // the gradient that run() gives
    const auto product = [](const Tensor& a, const Tensor& b) {
      return (a.to(at::kDouble) * b.to(at::kDouble)).sum().item<double>();
    };
    EXPECT_NEAR(product(g, run.values[0]), product(run.gradients[2], inputs[2]), 1e-2);  // it is linear in v
    for (const int which : {0, 1, 3, 4}) {
      const Tensor direction = test::drawn(inputs[which].sizes(), type, 11);
      const auto at_step = [&](double step) {
        Tensors moved = inputs;
        moved[which] = inputs[which] + direction * step;
        return product(g, function(moved)[0]);
      };
      const double expected = (at_step(5e-3) - at_step(-5e-3)) / 1e-2;
      EXPECT_NEAR(product(run.gradients[which], direction), expected, 0.02 * std::abs(expected) + 0.2) << which;
    }
  }
}

TEST(Disentangled, KeepsNoScores) {
  const Shape s{2, 8, 512, 512, 16, 400};
  Tensors t = drawn(s, at::kFloat);
  for (Tensor& x : t) x.requires_grad_();
  const int64_t bytes = test::CountingAllocator::instance().most_during([&] {
    attend(t, s, {true, true}, {}, 0.1).sum().backward();
  });
  EXPECT_LT(bytes, s.batch * s.heads * s.keys * s.keys * 4 / 2);
}

}  // namespace
}  // namespace deltaw

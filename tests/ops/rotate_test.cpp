// Rotations in one pass against the formula operation by operation.
#include "ops/rotate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "support/compared.h"
#include "support/gradcheck.h"

namespace deltaw {
namespace {

using at::Tensor;
using test::Tensors;

struct Angles {
  Tensor cos, sin;
};
Angles angles(at::IntArrayRef shape, at::ScalarType type) {
  const Tensor values = test::drawn(shape, at::kDouble, 9);
  return {values.cos().to(type), values.sin().to(type)};
}

Tensor plain(const Tensor& x, const Angles& turn) {
  const int64_t half = turn.cos.size(3), width = x.size(3);
  const Tensor first = x.narrow(3, 0, half), second = x.narrow(3, half, half);
  return at::cat({first * turn.cos - second * turn.sin, second * turn.cos + first * turn.sin,
                  x.narrow(3, 2 * half, width - 2 * half)},
                 3);
}

// Of the heads that `view` makes of the input.
void expect_plain(const Tensor& input, const Angles& turn, const std::function<Tensor(const Tensor&)>& view,
                  const std::string& what) {
  const auto actual = [&](const Tensors& t) { return Tensors{ops::rotated(view(t[0]), turn.cos, turn.sin)}; };
  const auto expected = [&](const Tensors& t) { return Tensors{plain(view(t[0]), turn)}; };
  test::expect_alike(actual, expected, {input}, test::tolerance(input.scalar_type()), what);
}

TEST(Rotated, IsTheFormulaForEveryLayout) {
  const auto as_is = [](const Tensor& x) { return x; };
  const auto crossed = [](const Tensor& x) { return x.transpose(1, 2); };
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const int64_t width : {2, 6, 34, 64, 128}) {
      const int64_t half = width / 2;
      const Angles turn = angles({3, 1, 11, half}, type);
      expect_plain(test::drawn({3, 4, 11, width}, type, 1), turn, as_is, "by head");
      expect_plain(test::drawn({3, 11, 4, width}, type, 2), turn, crossed, "by token");
      expect_plain(
          test::drawn({3, 11, 4, width + 5}, type, 3), turn,
          [&](const Tensor& x) { return x.narrow(3, 5, width).transpose(1, 2); }, "a slice");
      expect_plain(
          test::drawn({width, 11, 4, 3}, type, 4), turn,
          [](const Tensor& x) {
            return x.permute({3, 2, 1, 0});
          },
          "the width first");
    }
  }
}

TEST(Rotated, CopiesWhatDoesNotTurn) {
  const Angles turn = angles({2, 1, 5, 4}, at::kFloat);
  const Tensor x = test::drawn({2, 5, 3, 13}, at::kFloat, 1).transpose(1, 2);
  expect_plain(
      x, turn, [](const Tensor& t) { return t; }, "a part of a head");
  EXPECT_TRUE(ops::rotated(x, turn.cos, turn.sin).narrow(3, 8, 5).equal(x.narrow(3, 8, 5)));
}

TEST(Rotated, TakesAnglesForAllAlike) {
  const auto as_is = [](const Tensor& x) { return x; };
  const Tensor x = test::drawn({3, 2, 7, 8}, at::kFloat, 1);
  expect_plain(x, angles({1, 1, 7, 4}, at::kFloat), as_is, "one batch");
  expect_plain(x, angles({3, 1, 1, 4}, at::kFloat), as_is, "one position");
  const Angles turn = angles({3, 1, 4, 7}, at::kFloat);
  expect_plain(x, {turn.cos.transpose(2, 3), turn.sin.transpose(2, 3)}, as_is, "transposed angles");
  expect_plain(x.narrow(2, 0, 0), angles({1, 1, 0, 4}, at::kFloat), as_is, "no token");
}

TEST(Rotated, RoundsAsTheFormulaDoes) {
  const Angles turn = angles({2, 1, 30, 16}, at::kBFloat16);
  const Tensor x = test::drawn({2, 4, 30, 32}, at::kBFloat16, 1);
  EXPECT_TRUE(ops::rotated(x, turn.cos, turn.sin).equal(plain(x, turn)));
}

TEST(Rotated, GivesTheGradientByToken) {
  const Angles turn = angles({2, 1, 6, 4}, at::kFloat);
  const Tensor x = test::drawn({2, 6, 3, 8}, at::kFloat, 1).requires_grad_();
  const Tensor heads = x.transpose(1, 2);
  const Tensor y = ops::rotated(heads, turn.cos, turn.sin);
  EXPECT_TRUE(y.is_contiguous());
  const Tensor gradient = torch::autograd::grad({y.square().sum()}, {heads})[0];
  EXPECT_TRUE(gradient.transpose(1, 2).is_contiguous());
  EXPECT_TRUE(at::allclose(gradient, 2 * heads, 1e-5, 1e-6));  // a rotation keeps the length
}

TEST(Rotated, PassesOnWhatIsNoNumber) {
  const Angles turn = angles({1, 1, 2, 4}, at::kFloat);
  Tensor x = test::drawn({1, 1, 2, 8}, at::kFloat, 1);
  x[0][0][1][2] = std::nan("");
  const Tensor y = ops::rotated(x, turn.cos, turn.sin), expected = plain(x, turn);
  EXPECT_EQ(y.isnan().sum().item<int64_t>(), 2);
  EXPECT_TRUE(at::allclose(y, expected, 1e-6, 1e-6, /*equal_nan=*/true));
}

TEST(Rotated, DoesNotDependOnTheThreads) {
  const Angles turn = angles({2, 1, 100, 32}, at::kFloat);
  test::expect_equal_by_threads([&](const Tensors& t) { return Tensors{ops::rotated(t[0], turn.cos, turn.sin)}; },
                                {test::drawn({2, 6, 100, 64}, at::kFloat, 1)});
}

TEST(Rotated, InFloat64AgreesWithDifferences) {
  const Angles turn = angles({1, 1, 3, 2}, at::kDouble);
  const Tensor x = test::drawn({1, 2, 3, 5}, at::kDouble, 1).requires_grad_();
  const auto loss = [&] { return ops::rotated(x, turn.cos, turn.sin).sin().sum(); };
  loss().backward();
  EXPECT_EQ(test::check_gradient([&] { return loss().item<double>(); }, x, x.grad()), "");
}

}  // namespace
}  // namespace deltaw

// GroupNorm in one pass against torch's own, alone and with what follows it.
#include "ops/group_norm.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/conv2d.h"
#include "support/allocations.h"
#include "support/compared.h"

namespace deltaw {
namespace {

using test::Tensors;

constexpr double kEps = 1e-5;

// Inputs: x, weight, bias.
test::Function ours(int64_t groups, bool silu) {
  return [=](const Tensors& in) { return Tensors{ops::group_norm(in[0], in[1], in[2], groups, kEps, silu)}; };
}

// Computed in float32 between the inputs and the outputs, rounded where torch rounds behind its norm.
test::Function torchs(int64_t groups, bool silu) {
  return [=](const Tensors& in) {
    const at::ScalarType type = in[0].scalar_type(), wide = type == at::kDouble ? type : at::kFloat;
    const Tensor x = in[0].to(wide), weight = in[1].to(wide), bias = in[2].to(wide);
    Tensor y = weight.dim() == 1 ? at::group_norm(x, groups, weight, bias, kEps)
                                 : at::group_norm(x, groups, {}, {}, kEps) * weight.unsqueeze(-1).unsqueeze(-1) +
                                       bias.unsqueeze(-1).unsqueeze(-1);
    if (silu) y = at::silu(y);
    return Tensors{y.to(type)};
  };
}

struct Shape {
  int64_t batch, channels, groups, rows, columns;
};
constexpr Shape kShapes[] = {{1, 4, 4, 3, 5}, {3, 6, 2, 1, 1}, {2, 32, 8, 16, 16}, {2, 64, 32, 31, 33}};

Tensors inputs(const Shape& s, at::ScalarType type, bool of_pictures) {
  const std::vector<int64_t> affine = of_pictures ? std::vector{s.batch, s.channels} : std::vector{s.channels};
  // Far from zero: what a formula in squares would lose.
  return {test::drawn({s.batch, s.channels, s.rows, s.columns}, type, 1) + 3, test::drawn(affine, type, 2),
          test::drawn(affine, type, 3)};
}

TEST(GroupNorm, IsTorchs) {
  for (const Shape& s : kShapes) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
      for (const bool silu : {false, true}) {
        for (const bool of_pictures : {false, true}) {
          const std::string what =
              fmt::format("{} x {} in {} groups of {} x {}, {}{}{}", s.batch, s.channels, s.groups, s.rows, s.columns,
                          toString(type), silu ? ", SiLU" : "", of_pictures ? ", each picture its own" : "");
          const Tensors in = inputs(s, type, of_pictures);
          // Gradients of weights are sums over all places.
          const double places = std::sqrt(static_cast<double>(s.batch * s.rows * s.columns));
          const double share = type == at::kDouble ? 1e-10 : std::max(1e-4, test::tolerance(type) * (2 + places / 4));
          test::expect_alike(ours(s.groups, silu), torchs(s.groups, silu), in, share, what);
        }
      }
    }
  }
}

TEST(GroupNorm, TakesPicturesInAnyLayout) {
  Tensors in = inputs({2, 8, 2, 5, 7}, at::kFloat, false);
  in[0] = in[0].contiguous(at::MemoryFormat::ChannelsLast);
  test::expect_alike(ours(2, true), torchs(2, true), in, 1e-4, "channels last");
  in[0] = in[0].flatten(2).transpose(1, 2).contiguous().transpose(1, 2);
  test::expect_alike(
      ours(2, false), [](const Tensors& t) { return Tensors{at::group_norm(t[0], 2, t[1], t[2], kEps)}; }, in, 1e-4,
      "rows of pixels");
}

TEST(GroupNorm, DoesNotDependOnTheNumberOfThreads) {
  test::expect_equal_by_threads(ours(8, true), inputs({4, 32, 8, 32, 32}, at::kFloat, false));
}

// A chain of such norms and frozen convolutions keeps one tensor a link: what enters it.
TEST(GroupNorm, AndAFrozenConvolutionBehindItKeepWhatEntersAlone) {
  const Tensors in = inputs({2, 32, 8, 16, 16}, at::kFloat, false);
  Conv2d layer;
  layer.name = "conv";
  layer.kind = LayerKind::conv2d;
  layer.padding = {1, 1};
  layer.weight.value = test::drawn({32, 32, 3, 3}, at::kFloat, 4, 0.1);
  layer.view = std::make_unique<BaseView>(layer.matrix());
  const auto peak = [&](int links) {
    const Tensor x = in[0].detach().requires_grad_();
    return test::CountingAllocator::instance().most_during([&] {
      Call call;
      Tensor y = x;
      for (int i = 0; i < links; ++i) y = ops::conv2d(ops::group_norm(y, in[1], in[2], 8, kEps, true), layer, call);
      y.sum().backward();
    });
  };
  at::globalContext().setUserEnabledMkldnn(false);  // whose buffers are of a kind that is not counted
  peak(2);                                          // what is made once
  const double a_link = static_cast<double>(peak(10) - peak(4)) / 6;
  at::globalContext().setUserEnabledMkldnn(true);
  EXPECT_LT(a_link, 1.1 * static_cast<double>(in[0].nbytes()));
}

}  // namespace
}  // namespace deltaw

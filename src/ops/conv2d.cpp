#include "ops/conv2d.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include "deltaw/active_updates.h"
#include "deltaw/error.h"
#include "ops/fixed_updates.h"
#include "ops/linear/linear.h"

namespace deltaw::ops {
namespace {

[[noreturn]] void refuse(const Tensor& x, const Conv2d& layer, const std::string& takes) {
  throw Error({.id = "shape.mismatch",
               .what = fmt::format("the input is [{}], the layer takes {}", fmt::join(x.sizes().vec(), ", "), takes),
               .where = layer.name,
               .fix = "check the sizes in config.json against the checkpoint's tensors"});
}

// Rows and columns of the output.
std::array<int64_t, 2> output_size(const Tensor& x, const Conv2d& layer, const LayerInfo& info) {
  if ((x.dim() != 3 && x.dim() != 4) || x.size(-3) != info.channels()) {
    refuse(x, layer, fmt::format("[batch, {}, rows, columns]", info.channels()));
  }
  std::array<int64_t, 2> size{};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t reach = layer.dilation[i] * (info.kernel[i] - 1) + 1;
    const int64_t room = x.size(static_cast<int64_t>(i) - 2) + 2 * layer.padding[i] - reach;
    if (room < 0) refuse(x, layer, fmt::format("at least {} {}", reach, i == 0 ? "rows" : "columns"));
    size[i] = room / layer.stride[i] + 1;
  }
  return size;
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A convolution whose kernel does not train. torch's own node keeps x, which only the kernel's gradient would read.
class FrozenConv2d : public torch::autograd::Function<FrozenConv2d> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Conv2d* layer) {
    ctx->save_for_backward({weight});
    ctx->saved_data["sizes"] = x.sizes().vec();
    ctx->saved_data["stride"] = std::vector<int64_t>(layer->stride.begin(), layer->stride.end());
    ctx->saved_data["padding"] = std::vector<int64_t>(layer->padding.begin(), layer->padding.end());
    ctx->saved_data["dilation"] = std::vector<int64_t>(layer->dilation.begin(), layer->dilation.end());
    return at::conv2d(x, weight, bias, layer->stride, layer->padding, layer->dilation);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const Tensor weight = ctx->get_saved_variables()[0];
    const auto numbers = [&](const char* name) { return ctx->saved_data[name].toIntVector(); };
    const Tensor unread = at::empty(numbers("sizes"), weight.options());
    const auto found = at::convolution_backward(gradients[0], unread, weight, std::nullopt, numbers("stride"),
                                                numbers("padding"), numbers("dilation"), /*transposed=*/false, {0, 0},
                                                /*groups=*/1, {true, false, false});
    return {std::get<0>(found), Tensor(), Tensor(), Tensor()};
  }
};

Tensor plain_conv2d(const Tensor& x, const Conv2d& layer, Call& call) {
  const auto value = [&](const Parameter& parameter) {
    if (call.fixed && call.fixed->serves(call)) return call.fixed->value(parameter, x.scalar_type());
    const Tensor& own = call.adapter ? call.adapter->value(parameter) : parameter.value;
    return own.defined() ? own.to(x.scalar_type()) : own;
  };
  const Tensor weight = value(layer.weight), bias = value(layer.bias);
  const bool trains = weight.requires_grad() || (bias.defined() && bias.requires_grad());
  if (!at::GradMode::is_enabled() || !x.requires_grad() || trains || x.dim() != 4) {
    return at::conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation);
  }
  return FrozenConv2d::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, &layer);
}

}  // namespace

Tensor conv2d(const Tensor& x, const Conv2d& layer, Call& call) {
  const LayerInfo info = layer.info();
  const auto [rows, columns] = output_size(x, layer, info);
  const bool adapted = call.adapter && call.adapter->layer(layer);
  if (!adapted && !call.observer) return plain_conv2d(x, layer, call);
  const Tensor patches = at::im2col(x, info.kernel, layer.dilation, layer.padding, layer.stride);
  const Tensor y = linear(patches.transpose(-1, -2), layer, call);  // [batch, places, d_out]
  return y.transpose(-1, -2).unflatten(-1, {rows, columns});
}

}  // namespace deltaw::ops

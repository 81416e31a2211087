#include "models/unet_blocks.h"

#include <fmt/format.h>

#include <cmath>

#include "deltaw/error.h"
#include "ops/attention/attention.h"
#include "ops/conv2d.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"

namespace deltaw {
namespace {

const ops::Activation& silu() {
  static const ops::Activation activation("silu");
  return activation;
}

}  // namespace

Tensor sinusoids(const Tensor& numbers, int64_t width, bool flip_sin_to_cos, double freq_shift) {
  constexpr double kLongestPeriod = 10000;  // over 2 pi
  const int64_t half = width / 2;
  const Tensor exponents = at::arange(half, numbers.options().dtype(at::kFloat)) * -std::log(kLongestPeriod) /
                           (static_cast<double>(half) - freq_shift);
  const Tensor angles = numbers.to(at::kFloat).unsqueeze(1) * exponents.exp().unsqueeze(0);
  const Tensor sines = angles.sin(), cosines = angles.cos();
  const Tensor all = flip_sin_to_cos ? at::cat({cosines, sines}, 1) : at::cat({sines, cosines}, 1);
  return width % 2 == 1 ? at::constant_pad_nd(all, {0, 1}) : all;
}

TimeEmbedding::TimeEmbedding(Loader& load, const std::string& name, int64_t d_in, int64_t width)
    : linear_1(load.linear(name + ".linear_1", width, d_in)), linear_2(load.linear(name + ".linear_2", width, width)) {}

Tensor TimeEmbedding::operator()(const Tensor& x, Call& call) const {
  return ops::activated_linear(silu(), ops::linear(x, *linear_1, call), {}, *linear_2, call);
}

const Conv2d* load_conv3x3(Loader& load, const std::string& name, int64_t c_out, int64_t c_in) {
  return load.conv2d(name, c_out, c_in, {.kernel = {3, 3}, .padding = {1, 1}});
}

ops::GroupNorm load_group_norm(Loader& load, const std::string& name, int64_t channels, int64_t groups, double eps) {
  if (channels % groups != 0) {
    throw Error({.id = "config.bad-model",
                 .what = fmt::format("norm_num_groups is {}, and a norm has {} channels", groups, channels),
                 .where = name,
                 .fix = "norm_num_groups in config.json must divide every number of channels"});
  }
  return {.norm = load.layer_norm(name, channels, eps), .groups = groups};
}

ResnetBlock::ResnetBlock(Loader& load, const std::string& name, const ResnetForm& form, const Shape& shape)
    : dropout_(form.dropout),
      output_scale_factor_(shape.output_scale_factor),
      scale_shift_(form.scale_shift),
      resampling_(shape.resampling) {
  const auto norm = [&](const char* own, int64_t channels) {
    return load_group_norm(load, name + own, channels, form.norm_num_groups, form.norm_eps);
  };
  norm1_ = norm(".norm1", shape.c_in);
  conv1_ = load_conv3x3(load, name + ".conv1", shape.c_out, shape.c_in);
  if (form.time_width > 0) {
    time_emb_proj_ = load.linear(name + ".time_emb_proj", (form.scale_shift ? 2 : 1) * shape.c_out, form.time_width);
  }
  norm2_ = norm(".norm2", shape.c_out);
  conv2_ = load_conv3x3(load, name + ".conv2", shape.c_out, shape.c_out);
  if (shape.c_in != shape.c_out) conv_shortcut_ = load.conv2d(name + ".conv_shortcut", shape.c_out, shape.c_in);
}

Tensor ResnetBlock::resampled(const Tensor& x) const {
  if (resampling_ == Resampling::none) return x;
  if (resampling_ == Resampling::down) return at::avg_pool2d(x, {2, 2}, {2, 2});
  return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
}

Tensor ResnetBlock::operator()(const Tensor& x, const Tensor& time, Call& call) const {
  Tensor y = ops::conv2d(resampled(norm1_.silu(x, call)), *conv1_, call);
  const Tensor projected = time_emb_proj_ ? ops::activated_linear(silu(), time, {}, *time_emb_proj_, call) : Tensor();
  if (!projected.defined()) {
    y = norm2_.silu(y, call);
  } else if (scale_shift_) {
    const std::vector<Tensor> parts = projected.chunk(2, 1);
    y = norm2_.silu(y, parts[0], parts[1], call);
  } else {
    y = norm2_.silu(y + projected.unsqueeze(2).unsqueeze(3), call);
  }
  y = ops::conv2d(ops::dropout(y, dropout_, call), *conv2_, call);
  Tensor residual = resampled(x);
  if (conv_shortcut_) residual = ops::conv2d(residual, *conv_shortcut_, call);
  y = residual + y;
  return output_scale_factor_ == 1 ? y : y / output_scale_factor_;
}

PixelAttention::PixelAttention(Loader& load, const std::string& name, const Form& form)
    : heads_(form.heads), output_scale_factor_(form.output_scale_factor) {
  const int64_t d = form.channels;
  if (form.norm_num_groups > 0) {
    group_norm_ = load_group_norm(load, name + ".group_norm", d, form.norm_num_groups, form.norm_eps);
  }
  for (const char* own : {".to_q", ".to_k", ".to_v"}) to_qkv_.push_back(load.linear(name + own, d, d));
  to_out_ = load.linear(name + ".to_out.0", d, d);
}

Tensor PixelAttention::operator()(const Tensor& x, Call& call) const {
  const Tensor pixels = (group_norm_ ? (*group_norm_)(x, call) : x).flatten(2).transpose(1, 2);
  std::vector<Tensor> parts = ops::linear_group(pixels, to_qkv_, call);
  for (Tensor& part : parts) part = part.unflatten(-1, {heads_, -1}).transpose(1, 2);
  const Tensor mixed = ops::attention(parts[0], parts[1], parts[2], {}, {}, call).transpose(1, 2).flatten(2);
  const Tensor y = x + ops::linear(mixed, *to_out_, call).transpose(1, 2).unflatten(2, {x.size(2), x.size(3)});
  return output_scale_factor_ == 1 ? y : y / output_scale_factor_;
}

Downsample::Downsample(Loader& load, const std::string& name, int64_t channels, bool asymmetric)
    : asymmetric_(asymmetric) {
  const int64_t padding = asymmetric ? 0 : 1;
  conv_ = load.conv2d(name + ".conv", channels, channels,
                      {.kernel = {3, 3}, .stride = {2, 2}, .padding = {padding, padding}});
}

Tensor Downsample::operator()(const Tensor& x, Call& call) const {
  return ops::conv2d(asymmetric_ ? at::constant_pad_nd(x, {0, 1, 0, 1}) : x, *conv_, call);
}

Upsample::Upsample(Loader& load, const std::string& name, int64_t channels)
    : conv_(load_conv3x3(load, name + ".conv", channels, channels)) {}

Tensor Upsample::operator()(const Tensor& x, int64_t rows, int64_t columns, Call& call) const {
  return ops::conv2d(at::upsample_nearest2d(x, {rows, columns}), *conv_, call);
}

}  // namespace deltaw

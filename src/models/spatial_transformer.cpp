#include "models/spatial_transformer.h"

#include <fmt/format.h>

#include "models/unet_blocks.h"
#include "ops/attention/attention.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

constexpr double kGroupNormEps = 1e-6, kLayerNormEps = 1e-5;  // whatever norm_eps says
constexpr int64_t kFeedForward = 4;                           // times as wide as the pixels

const Linear* load_projection(Loader& load, const std::string& name, int64_t channels, bool linear) {
  if (linear) return load.linear(name, channels, channels);
  return load.conv2d(name, channels, channels);
}

}  // namespace

SpatialTransformer::SpatialTransformer(Loader& load, const std::string& name, const Form& form) : heads_(form.heads) {
  const int64_t d = form.channels;
  norm_ = load_group_norm(load, name + ".norm", d, form.norm_num_groups, kGroupNormEps);
  proj_in_ = load_projection(load, name + ".proj_in", d, form.linear_projection);
  for (int64_t i = 0; i < form.blocks; ++i) {
    const std::string block = fmt::format("{}.transformer_blocks.{}", name, i);
    const auto norm = [&](const char* own) { return load.layer_norm(block + own, d, kLayerNormEps); };
    // Braces load the tensors in the order in which they stand here.
    blocks_.push_back({.norm1 = norm(".norm1"),
                       .attn1 = load_attention(load, block + ".attn1", d, d),
                       .norm2 = norm(".norm2"),
                       .attn2 = load_attention(load, block + ".attn2", d, form.cross_attention_dim),
                       .norm3 = norm(".norm3"),
                       .feed_in = load.linear(block + ".ff.net.0.proj", 2 * kFeedForward * d, d),
                       .feed_out = load.linear(block + ".ff.net.2", d, kFeedForward * d)});
  }
  proj_out_ = load_projection(load, name + ".proj_out", d, form.linear_projection);
}

SpatialTransformer::Attention SpatialTransformer::load_attention(Loader& load, const std::string& name,
                                                                 int64_t channels, int64_t read) const {
  return {.to_q = load.linear(name + ".to_q", channels, channels, {.bias = false}),
          .to_k = load.linear(name + ".to_k", channels, read, {.bias = false}),
          .to_v = load.linear(name + ".to_v", channels, read, {.bias = false}),
          .to_out = load.linear(name + ".to_out.0", channels, channels)};
}

// Of queries, keys and values [batch, tokens, channels].
Tensor SpatialTransformer::mixed(std::vector<Tensor> parts, const Attention& attention, Call& call) const {
  for (Tensor& part : parts) part = part.unflatten(-1, {heads_, -1}).transpose(1, 2);
  const Tensor heads = ops::attention(parts[0], parts[1], parts[2], {}, {}, call);
  return ops::linear(heads.transpose(1, 2).flatten(2), *attention.to_out, call);
}

Tensor SpatialTransformer::run(const Block& block, const Tensor& x, const Tensor& text, Call& call) const {
  static const ops::Activation gelu("gelu");
  const Attention &own = block.attn1, &other = block.attn2;
  const Tensor read = ops::normalised(x, *block.norm1, call);
  const Tensor looked = mixed(ops::linear_group(read, {own.to_q, own.to_k, own.to_v}, call), own, call);
  const ops::Sum asking = ops::add_normalised(looked, x, *block.norm2, call);
  std::vector<Tensor> parts = ops::linear_group(text, {other.to_k, other.to_v}, call);
  parts.insert(parts.begin(), ops::linear(asking.normalised, *other.to_q, call));
  const ops::Sum told = ops::add_normalised(mixed(std::move(parts), other, call), asking.sum, *block.norm3, call);
  const std::vector<Tensor> halves = ops::linear(told.normalised, *block.feed_in, call).chunk(2, -1);
  return told.sum + ops::activated_linear(gelu, halves[1], halves[0], *block.feed_out, call);
}

Tensor SpatialTransformer::operator()(const Tensor& x, const Tensor& text, Call& call) const {
  Tensor pixels = ops::linear(norm_(x, call).flatten(2).transpose(1, 2), *proj_in_, call);
  for (const Block& block : blocks_) pixels = run(block, pixels, text, call);
  return x + ops::linear(pixels, *proj_out_, call).transpose(1, 2).unflatten(2, {x.size(2), x.size(3)});
}

}  // namespace deltaw

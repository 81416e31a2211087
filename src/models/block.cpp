#include "models/block.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

// Keys and values behind those of the layer's prefix and of the cache.
std::pair<Tensor, Tensor> with_past(Tensor keys, Tensor values, const BlockInput& input, Call& call) {
  if (input.prefix.defined()) {
    const Tensor prefix = input.prefix.to(keys.scalar_type());
    const auto before = [&](int64_t which, const Tensor& own) {
      const Tensor rows = prefix.select(1, which).view({prefix.size(0), own.size(1), own.size(3)}).transpose(0, 1);
      return at::cat({rows.expand({own.size(0), -1, -1, -1}), own}, 2);
    };
    keys = before(0, keys);
    values = before(1, values);
  }
  if (call.cache) return call.cache->append(input.layer, keys, values);
  return {keys, values};
}

// In the type of the angles, which may be wider than the model's.
Tensor turned(const Tensor& x, const Rotary::Turn& turn) {
  return rotated(x.to(turn.cos.scalar_type()), turn).to(x.scalar_type());
}

Rotary::Turn first_of(const Rotary::Turn& turn) {
  return {turn.cos.narrow(2, 0, 1), turn.sin.narrow(2, 0, 1)};
}

}  // namespace

Tensor SublayerOutput::added(Tensor y, Call& call) const {
  if (norm) y = ops::normalised(y, *norm, call);
  y = ops::mapped_output(ops::dropout(y, dropout, call), *layer, call);
  if (scale) y = y * ops::value_of(*scale, call, y.scalar_type());
  if (!call.training || drop_path == 0) return y;
  std::vector<int64_t> of_rows(static_cast<size_t>(y.dim()), 1);
  of_rows[0] = y.size(0);
  return y * ops::dropout(at::ones(of_rows, y.options()), drop_path, call);
}

Attention::Heads Attention::project(const Tensor& x, const Tensor& asking, const Padding& padding, Call& call) const {
  const bool all_ask = asking.is_same(x);
  std::vector<Tensor> parts;
  if (qkv.size() == 1) {
    const int64_t keys = key_heads * width;
    parts = padding.add(ops::linear(x, *qkv[0], call)).split_with_sizes({heads * width, keys, keys}, -1);
    if (!all_ask) parts[0] = parts[0].narrow(1, 0, 1);
  } else {
    parts = all_ask ? ops::linear_group(x, qkv, call) : ops::linear_group(x, {qkv[1], qkv[2]}, call);
    for (Tensor& part : parts) part = padding.add(part);
    if (!all_ask) parts.insert(parts.begin(), ops::linear(asking, *qkv[0], call).unsqueeze(1));
  }
  for (Tensor& part : parts) part = part.unflatten(-1, {-1, width});
  if (query_norm) parts[0] = ops::normalised(parts[0], *query_norm, call);
  if (key_norm) parts[1] = ops::normalised(parts[1], *key_norm, call);
  return {parts[0].transpose(1, 2), parts[1].transpose(1, 2), parts[2].transpose(1, 2)};
}

Tensor Attention::added(const Tensor& mixed, const BlockInput& input, Call& call) const {
  const Tensor joined = mixed.transpose(1, 2).flatten(2);
  const Tensor own = input.firsts_only ? joined.squeeze(1) : input.padding.remove(joined);
  return output.added(ops::linear(own, *output.layer, call), call);
}

Tensor Attention::operator()(const Tensor& x, const Tensor& asking, const BlockInput& input, Call& call) const {
  auto [q, k, v] = project(x, asking, input.padding, call);
  if (const Rotary::Turn& turn = input.turn; turn.cos.defined()) {
    q = turned(q, input.firsts_only ? first_of(turn) : turn);
    k = turned(k, turn);
  }
  const int64_t seq = v.size(2);
  std::tie(k, v) = with_past(k, v, input, call);
  ops::AttentionMask mask = input.mask;
  if (input.firsts_only && mask.window > 0) {  // the first token sees those behind it that its window reaches
    const int64_t seen = k.size(2) - seq + std::min(seq, mask.window + 1);
    k = k.narrow(2, 0, seen);
    v = v.narrow(2, 0, seen);
    mask = {.bias = mask.bias.defined() ? mask.bias.narrow(3, 0, seen) : Tensor()};
  }
  return added(ops::attention(q, k, v, mask, form, call), input, call);
}

Tensor FeedForward::operator()(const Tensor& x, Call& call) const {
  std::vector<Tensor> parts = ops::linear_group(x, inner, call);
  if (gated && parts.size() == 1) parts = parts[0].chunk(2, -1);
  const Tensor up = gated ? parts[1] : Tensor();
  if (!call.training || dropout == 0) {
    return output.added(ops::activated_linear(activation, parts[0], up, *output.layer, call), call);
  }
  const Tensor value = gated ? activation.gated(parts[0], up) : activation(parts[0]);
  return output.added(ops::linear(ops::dropout(value, dropout, call), *output.layer, call), call);
}

Tensor Block::operator()(const Tensor& x, const BlockInput& input, Call& call) const {
  const auto asking_of = [&](const Tensor& all) { return input.firsts_only ? input.padding.firsts(all) : all; };
  const Tensor residual = asking_of(x);
  const auto attended = [&] {
    if (!norms_first || !attention_norm) return attention(x, residual, input, call);
    const Tensor read = ops::normalised(x, *attention_norm, call);
    return attention(read, asking_of(read), input, call);
  };
  return behind_attention(attended(), residual, call);
}

Tensor Block::behind_attention(const Tensor& attended, const Tensor& residual, Call& call) const {
  const Norm& between = norms_first ? *feed_forward_norm : *attention_norm;
  const auto [sum, x] = ops::add_normalised(attended, residual, between, call);
  const Tensor fed = feed_forward(x, call);
  return norms_first ? sum + fed : ops::add_normalised(fed, x, *feed_forward_norm, call).normalised;
}

}  // namespace deltaw

#include "ops/fixed_updates.h"

#include <ATen/ATen.h>

#include "ops/linear/weight.h"
#include "ops/quantised.h"
#include "ops/sum.h"

namespace deltaw {
namespace {

// Factors stay factors where reading them adds no more than this share to reading W0 ...
constexpr int64_t kShare = 20;
// ... and the layer is not so small that two more calls cost more than its product.
constexpr int64_t kSmallLayer = 512 * 512;

Tensor as(const Tensor& tensor, at::ScalarType type) {
  if (!tensor.defined()) return tensor;
  return tensor.detach().to(type);
}

bool narrow(const Update& update) {
  const int64_t d_out = update.left.size(0), k = update.left.size(1), d_in = update.right.size(1);
  return kShare * k * (d_in + d_out) <= d_out * d_in;
}

bool is_small(const Linear& layer) {
  return layer.weight.numel() <= kSmallLayer;
}

// A W of its own would be multiplied in the model's type, where training multiplied codes.
bool is_in_int8(const Linear& layer) {
  return layer.weight.quantised && layer.weight.quantised->in_int8();
}

bool folds(const Linear& layer, const Update& update, LinearPath path) {
  if (update.before || update.beside) return true;
  if (!update.left.defined() && !update.dense.defined()) return false;  // gains alone are cheaper than a second W
  if (path != LinearPath::automatic) return path != LinearPath::sequence;
  if (update.dense.defined()) return true;
  return is_in_int8(layer) ? !narrow(update) : is_small(layer) || !narrow(update);
}

}  // namespace

FixedUpdates::FixedUpdates(const ActiveUpdates& adapter)
    : adapter_(adapter),
      updates_(adapter.model().layers().size()),
      settled_(adapter.model().layers().size()),
      values_(adapter.model().parameters().size()) {}

bool FixedUpdates::serves(const Call& call) const {
  return call.adapter == &adapter_ && !call.training && !at::GradMode::is_enabled();
}

const Update& FixedUpdates::update(const AdaptedLayer& adapted) {
  std::optional<Update>& kept = updates_[adapted.base->index];
  if (!kept) kept = adapted.update();
  return *kept;
}

Tensor FixedUpdates::value(const Parameter& parameter, at::ScalarType type) {
  const bool patched = adapter_.tokens(parameter) != nullptr;
  const Tensor& value = adapter_.value(parameter);
  if (!patched && (!value.defined() || value.scalar_type() == type || parameter.slot < 0)) return as(value, type);
  Tensor& kept = values_[parameter.slot];
  if (!kept.defined() || kept.scalar_type() != type) kept = as(adapter_.whole_value(parameter), type);
  return kept;
}

FixedUpdates::Settled FixedUpdates::settle(const Linear& layer, const AdaptedLayer& adapted, at::ScalarType type,
                                           LinearPath path) {
  const Update update = adapted.update();
  Settled result;
  result.type = type;
  result.bias = as(adapter_.value(layer.bias), type);
  if (result.bias.defined() && update.out_gain.defined() && update.gain_on_bias) {
    result.bias = result.bias * as(update.out_gain, type);
  }
  if (update.bias.defined()) result.bias = ops::plus(result.bias, as(update.bias * update.scale, type));
  if (folds(layer, update, path)) {
    const Tensor weight = layer.matrix();
    const at::ScalarType wide = at::promote_types(weight.scalar_type(), at::kFloat);
    result.weight = as(ops::updated_weight(update, weight.to(wide)), type).contiguous();
    return result;
  }
  if (!layer.weight.quantised) result.weight = as(layer.matrix(), type);
  result.beside.left = as(update.left, type);
  result.beside.right = as(update.right, type);
  result.beside.dense = as(update.dense, type);
  result.beside.out_gain = as(update.out_gain, type);
  result.beside.in_gain = as(update.in_gain, type);
  result.beside.scale = update.scale;
  return result;
}

Tensor FixedUpdates::linear(const Tensor& x, const Linear& layer, const AdaptedLayer& adapted, LinearPath path) {
  std::optional<Settled>& kept = settled_[layer.index];
  if (!kept || kept->type != x.scalar_type()) kept = settle(layer, adapted, x.scalar_type(), path);
  const Update& beside = kept->beside;
  const bool gained = beside.out_gain.defined();
  const Tensor input = beside.in_gain.defined() ? x * beside.in_gain : x;
  const Tensor bias = gained ? Tensor() : kept->bias;
  Tensor y = kept->weight.defined() ? at::linear(input, kept->weight, bias)
                                    : ops::quantised_linear(input, layer.weight.quantised, bias);
  if (beside.left.defined()) y.addmm_(at::mm(input, beside.right.t()), beside.left.t(), 1, beside.scale);
  if (beside.dense.defined()) y.addmm_(input, beside.dense.t(), 1, beside.scale);
  if (!gained) return y;
  y = y * beside.out_gain;
  return kept->bias.defined() ? y + kept->bias : y;
}

}  // namespace deltaw

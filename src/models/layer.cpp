#include "deltaw/model.h"

#include <algorithm>

#include "ops/quantised.h"

namespace deltaw {

Tensor matrix_of(LayerKind kind, const Tensor& stored) {
  if (kind == LayerKind::linear) return stored;
  return kind == LayerKind::conv2d ? stored.flatten(1) : stored.t();
}

Tensor as_stored(const LayerInfo& layer, const Tensor& matrix) {
  if (layer.kind == LayerKind::linear) return matrix;
  if (layer.kind != LayerKind::conv2d) return matrix.t();
  return matrix.reshape({layer.d_out, layer.channels(), layer.kernel[0], layer.kernel[1]});
}

int64_t Parameter::numel() const {
  if (quantised) return quantised->d_out() * quantised->d_in();
  return value.defined() ? value.numel() : 0;
}

int64_t Parameter::nbytes() const {
  if (quantised) return quantised->nbytes();
  return value.defined() ? static_cast<int64_t>(value.nbytes()) : 0;
}

Tensor Layer::matrix() const {
  return weight.quantised ? weight.quantised->dequantised() : matrix_of(kind, weight.value);
}

BaseView Layer::view_with(const Observed* observed) const {
  if (weight.quantised) return BaseView(weight.quantised, observed);
  return BaseView(matrix(), observed);
}

LayerInfo Layer::info() const {
  LayerInfo info{
      .name = name, .d_out = view->d_out(), .d_in = view->d_in(), .kind = kind, .feed_forward = feed_forward};
  if (kind == LayerKind::conv2d) info.kernel = {weight.value.size(2), weight.value.size(3)};
  return info;
}

const Layer* Model::head_layer() const {
  const auto found =
      std::find_if(layers_.begin(), layers_.end(), [&](const Layer* layer) { return layer->name == head_.module; });
  return found == layers_.end() ? nullptr : *found;
}

std::optional<QuantisationError> Model::quantisation_error() const {
  QuantisationError found;
  for (const Layer* layer : layers_) {
    const Quantised* weight = layer->weight.quantised.get();
    const std::optional<double> error = weight ? weight->relative_error() : std::nullopt;
    if (!error) continue;
    found.type = weight->name();
    ++found.layers;
    found.mean += *error;
    if (found.layers > 1 && *error <= found.worst) continue;
    found.worst = *error;
    found.worst_layer = layer->name;
  }
  if (found.layers == 0) return std::nullopt;
  found.mean /= static_cast<double>(found.layers);
  return found;
}

}  // namespace deltaw

#include "ops/linear/linear.h"

#include <fmt/format.h>

#include "deltaw/active_updates.h"
#include "deltaw/error.h"
#include "ops/linear/group.h"
#include "ops/linear/input.h"
#include "ops/linear/plain.h"

namespace deltaw::ops {
namespace {

const AdaptedLayer* adapted_by(const Call& call, const Linear& layer) {
  return call.adapter ? call.adapter->layer(layer) : nullptr;
}

LayerCall layer_call(const Linear& layer, const AdaptedLayer& adapted, Call& call) {
  LayerCall result{.adapted = &adapted, .base = &layer, .bias = call.adapter->value(layer.bias)};
  result.dropout = call.training ? adapted.method->dropout() : 0;
  if (result.dropout > 0) result.dropout_key = call.next_key();
  return result;
}

void check_width(const Tensor& x, const Linear& layer) {
  const int64_t d_in = layer.view->d_in();
  if (x.dim() >= 1 && x.size(-1) == d_in) return;
  throw Error({.id = "shape.mismatch",
               .what = fmt::format("the input is {} wide, the layer takes {}", x.dim() ? x.size(-1) : 0, d_in),
               .where = layer.name,
               .fix = "check the sizes in config.json against the checkpoint's tensors"});
}

Tensors run(const Input& input, const std::vector<const Linear*>& layers, Call& call) {
  const Input rows = input.in_rows();  // before the plain layers: autograd adds up gradients in the order of its nodes
  Tensors outputs(layers.size());
  std::vector<LayerCall> grouped;
  std::vector<size_t> places;  // of these among the layers
  Tensor x;                    // what plain layers read, once one of them asks
  for (size_t i = 0; i < layers.size(); ++i) {
    const Linear& layer = *layers[i];
    check_width(input.x, layer);
    const AdaptedLayer* adapted = adapted_by(call, layer);
    if (is_plain(adapted, call)) {
      if (!x.defined()) x = input.recorded();
      outputs[i] = plain_layer(x, layer, adapted, call);
    } else {
      grouped.push_back(layer_call(layer, *adapted, call));
      places.push_back(i);
    }
  }
  if (!grouped.empty()) {
    const Tensors results = linear_node(rows, grouped, call.path, call.formed);
    for (size_t i = 0; i < places.size(); ++i) outputs[places[i]] = results[i];
  }
  std::vector<int64_t> shape = input.x.sizes().vec();
  for (Tensor& output : outputs) {
    shape.back() = output.size(-1);
    if (output.sizes() != at::IntArrayRef(shape)) output = output.view(shape);
  }
  return outputs;
}

}  // namespace

Tensors linear_group(const Tensor& x, const std::vector<const Linear*>& layers, Call& call) {
  return run({.x = x}, layers, call);
}

Tensor linear(const Tensor& x, const Linear& layer, Call& call) {
  return run({.x = x}, {&layer}, call).front();
}

Tensor activated_linear(const Activation& activation, const Tensor& x, const Tensor& up, const Linear& layer,
                        Call& call) {
  const std::optional<Tensor> gate = up.defined() ? std::optional(up) : std::nullopt;
  return run({.x = x, .up = gate, .activation = &activation}, {&layer}, call).front();
}

Tensor mapped_output(const Tensor& output, const Linear& layer, const Call& call) {
  const AdaptedLayer* adapted = adapted_by(call, layer);
  return adapted ? adapted->method->map_output(adapted->info, adapted->params, output) : output;
}

}  // namespace deltaw::ops

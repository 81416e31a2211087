#include "ops/linear/plain.h"

#include "ops/dropout_mask.h"
#include "ops/fixed_updates.h"
#include "ops/linear/input.h"
#include "ops/quantised.h"

namespace deltaw::ops {
namespace {

bool is_fixed(const Call& call) {
  return call.fixed && call.fixed->serves(call);
}

Tensor base_layer(const Tensor& x, const Linear& layer, const Call& call) {
  if (layer.weight.quantised) {  // which nothing stands in for
    return quantised_linear(x, layer.weight.quantised,
                            call.adapter ? call.adapter->value(layer.bias) : layer.bias.value);
  }
  if (is_fixed(call)) {
    const Tensor weight = call.fixed->value(layer.weight, x.scalar_type());
    return at::linear(x, matrix_of(layer.kind, weight), call.fixed->value(layer.bias, x.scalar_type()));
  }
  const Tensor& weight = call.adapter ? call.adapter->value(layer.weight) : layer.weight.value;
  const Tensor& bias = call.adapter ? call.adapter->value(layer.bias) : layer.bias.value;
  const Tensor y = at::linear(x, matrix_of(layer.kind, as(weight, x)), bias.defined() ? as(bias, x) : bias);
  const TrainedTokens* tokens = call.adapter ? call.adapter->tokens(layer.weight) : nullptr;
  return tokens ? y.index_copy(-1, tokens->indices, at::linear(x, as(tokens->rows, x))) : y;
}

// y = W0 before(x) + scale beside(D(x)) + b, with D the dropout: the maps are small products, and plain autograd keeps
// what they need.
Tensor mapped_layer(const Tensor& x, const Linear& layer, const AdaptedLayer& adapted, Call& call) {
  const Update update = adapted.update();
  const double p = call.training ? adapted.method->dropout() : 0;
  const Tensor input = update.before ? update.before(x) : x;
  const Tensor& bias = call.adapter->value(layer.bias);
  const Tensor y = layer.weight.quantised ? quantised_linear(input, layer.weight.quantised, bias)
                                          : at::linear(input, layer.matrix(), bias.defined() ? as(bias, x) : bias);
  if (!update.beside) return y;
  const Tensor dropped = p > 0 ? x * dropout_mask(x, p, call.next_key()) : x;
  return y + update.beside(dropped) * update.scale;
}

}  // namespace

bool is_plain(const AdaptedLayer* adapted, const Call& call) {
  return !adapted || adapted->method->acts_on_inputs() || is_fixed(call);
}

Tensor plain_layer(const Tensor& x, const Linear& layer, const AdaptedLayer* adapted, Call& call) {
  if (!adapted) {
    Tensor y = base_layer(x, layer, call);
    if (call.observer) call.observer->see(layer, x, y);
    return y;
  }
  const Tensor rows = Input{.x = x}.in_rows().x;
  return is_fixed(call) ? call.fixed->linear(rows, layer, *adapted, call.path)
                        : mapped_layer(rows, layer, *adapted, call);
}

}  // namespace deltaw::ops

#include "ops/layers.h"

#include <torch/csrc/autograd/custom_function.h>

#include "deltaw/active_updates.h"
#include "ops/dropout_mask.h"
#include "ops/fixed_updates.h"

namespace deltaw::ops {
namespace {

class Dropout : public torch::autograd::Function<Dropout> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, double p, int64_t key) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["key"] = key;
    return x * dropout_mask(x, p, static_cast<uint64_t>(key));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const Tensor mask = dropout_mask(gradients[0], ctx->saved_data["p"].toDouble(),
                                     static_cast<uint64_t>(ctx->saved_data["key"].toInt()));
    return {gradients[0] * mask, Tensor(), Tensor()};
  }
};

// Rows that stand in for those of the ids, any row where none does. Whether padding's is one of them a tensor knows, so
// it is looked up in a copy behind them, which gets no gradient.
Tensor stand_ins(const Tensor& ids, const Tensor& places, const TrainedTokens& tokens, int64_t padding) {
  if (padding < 0) return at::embedding(tokens.rows, places.clamp_min(0));
  const Tensor own = tokens.rows.detach().index_select(0, tokens.places.narrow(0, padding, 1).clamp_min(0));
  const Tensor slots = places.clamp_min(0).masked_fill(ids.eq(padding), tokens.rows.size(0));
  return at::embedding(at::cat({tokens.rows, own}), slots);
}

}  // namespace

Tensor value_of(const Parameter& parameter, const Call& call, at::ScalarType type) {
  const Tensor& tensor = call.adapter ? call.adapter->value(parameter) : parameter.value;
  return !tensor.defined() || tensor.scalar_type() == type ? tensor : tensor.to(type);
}

Tensor embedding(const Tensor& ids, const Embedding& table, const Call& call) {
  const Tensor& weight = call.adapter ? call.adapter->value(table.weight) : table.weight.value;
  Tensor rows = at::embedding(weight, ids, table.padding_idx);
  if (const TrainedTokens* tokens = call.adapter ? call.adapter->tokens(table.weight) : nullptr) {
    const Tensor places = tokens->places.index_select(0, ids.flatten()).view_as(ids);
    const Tensor trained = stand_ins(ids, places, *tokens, table.padding_idx).to(rows.scalar_type());
    rows = at::where(places.ge(0).unsqueeze(-1), trained, rows);
  }
  const AdaptedLayer* adapted = call.adapter ? call.adapter->layer(table) : nullptr;
  if (adapted) {
    // Column `id` of W. The factors are thin and few rows are asked for, so plain autograd serves.
    const bool fixed = call.fixed && call.fixed->serves(call);
    const Update u = fixed ? call.fixed->update(*adapted) : adapted->update();
    const auto columns = [&](const Tensor& matrix) { return at::embedding(matrix.t(), ids, table.padding_idx); };
    if (u.left.defined()) rows = rows + u.scale * at::matmul(columns(u.right), u.left.t());
    if (u.dense.defined()) rows = rows + u.scale * columns(u.dense);
    if (u.out_gain.defined()) rows = rows * u.out_gain;
    if (u.in_gain.defined()) rows = rows * columns(u.in_gain.unsqueeze(0));
    if (u.bias.defined()) rows = rows + u.scale * u.bias;
  }
  return rows.to(table.weight.value.scalar_type());
}

Tensor dropout(const Tensor& x, double p, Call& call) {
  if (!call.training || p == 0) return x;
  return Dropout::apply(x, p, static_cast<int64_t>(call.next_key()));
}

}  // namespace deltaw::ops

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

}  // namespace

Tensor embedding(const Tensor& ids, const Embedding& table, const Call& call) {
  const Tensor& weight = call.adapter ? call.adapter->value(table.weight) : table.weight.value;
  Tensor rows = at::embedding(weight, ids, table.padding_idx);
  if (const TrainedTokens* tokens = call.adapter ? call.adapter->tokens(table.weight) : nullptr) {
    const Tensor places = tokens->places.index_select(0, ids.flatten()).view_as(ids);
    const int64_t pad = table.padding_idx < 0 ? -1 : tokens->places[table.padding_idx].item<int64_t>();
    const Tensor trained = at::embedding(tokens->rows, places.clamp_min(0), pad).to(rows.scalar_type());
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

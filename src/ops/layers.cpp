#include "ops/layers.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "ops/fixed_updates.h"
#include "ops/random.h"

namespace deltaw::ops {
namespace {

Tensor value(const Parameter& parameter, const Call& call, at::ScalarType type) {
  const Tensor& tensor = call.adapter ? call.adapter->value(parameter) : parameter.value;
  return tensor.scalar_type() == type ? tensor : tensor.to(type);
}

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
  Tensor rows = at::embedding(weight, ids);
  if (const TrainedTokens* tokens = call.adapter ? call.adapter->tokens(table.weight) : nullptr) {
    const Tensor places = tokens->places.index_select(0, ids.flatten()).view_as(ids);
    const Tensor trained = at::embedding(tokens->rows, places.clamp_min(0)).to(rows.scalar_type());
    rows = at::where(places.ge(0).unsqueeze(-1), trained, rows);
  }
  const AdaptedLayer* adapted = call.adapter ? call.adapter->layer(table) : nullptr;
  if (adapted) {
    // Column `id` of W. The factors are thin and few rows are asked for, so plain autograd serves.
    const bool fixed = call.fixed && call.fixed->serves(call);
    const Update u =
        fixed ? call.fixed->update(*adapted) : adapted->method->update(adapted->info, adapted->params, *table.view);
    const auto columns = [&](const Tensor& matrix) { return at::embedding(matrix.t(), ids, table.padding_idx); };
    if (u.left.defined()) rows = rows + u.scale * at::matmul(columns(u.right), u.left.t());
    if (u.dense.defined()) rows = rows + u.scale * columns(u.dense);
    if (u.out_gain.defined()) rows = rows * u.out_gain;
    if (u.in_gain.defined()) rows = rows * columns(u.in_gain.unsqueeze(0));
    if (u.bias.defined()) rows = rows + u.scale * u.bias;
  }
  return rows.to(table.weight.value.scalar_type());
}

namespace {

// In transformers' order of casts: Llama rounds to the model's type before it multiplies by the weight, Gemma after.
Tensor rms_normalised(const Tensor& x, const Norm& norm, const Call& call) {
  const at::ScalarType type = x.scalar_type(), wide_type = type == at::kDouble ? type : at::kFloat;
  const Tensor wide = x.to(wide_type);
  const Tensor scaled = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + norm.eps);
  if (norm.offset == 0) return value(norm.weight, call, type) * scaled.to(type);
  return (scaled * (value(norm.weight, call, wide_type) + norm.offset)).to(type);
}

}  // namespace

Tensor normalised(const Tensor& x, const Norm& norm, const Call& call) {
  if (!norm.centred) return rms_normalised(x, norm, call);
  return at::layer_norm(x, {x.size(-1)}, value(norm.weight, call, x.scalar_type()),
                        value(norm.bias, call, x.scalar_type()), norm.eps);
}

Tensor dropout(const Tensor& x, double p, Call& call) {
  if (!call.training || p == 0) return x;
  return Dropout::apply(x, p, static_cast<int64_t>(call.next_key()));
}

std::function<Tensor(const Tensor&)> activation(const std::string& name, const char* key) {
  if (name == "gelu" || name == "gelu_python") return [](const Tensor& x) { return at::gelu(x); };
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") {
    return [](const Tensor& x) { return at::gelu(x, "tanh"); };
  }
  if (name == "quick_gelu") return [](const Tensor& x) { return x * at::sigmoid(x * 1.702); };
  if (name == "relu") return [](const Tensor& x) { return at::relu(x); };
  if (name == "silu" || name == "swish") return [](const Tensor& x) { return at::silu(x); };
  if (name == "tanh") return [](const Tensor& x) { return at::tanh(x); };
  throw Error({.id = "config.unsupported",
               .what = "activation '" + name + "' is not implemented",
               .where = fmt::format("config.json, key \"{}\"", key),
               .fix = "supported: gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu, tanh"});
}

}  // namespace deltaw::ops

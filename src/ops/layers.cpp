#include "ops/layers.h"

#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "ops/fixed_updates.h"
#include "ops/random.h"

namespace deltaw::ops {
namespace {

// Below this many keys two products and a softmax beat the fused kernel's backward pass on CPUs.
constexpr int64_t kFusedFrom = 512;

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

Tensor normalised(const Tensor& x, const Norm& norm, const Call& call) {
  return at::layer_norm(x, {x.size(-1)}, value(norm.weight, call, x.scalar_type()),
                        value(norm.bias, call, x.scalar_type()), norm.eps);
}

Tensor dropout(const Tensor& x, double p, Call& call) {
  if (!call.training || p == 0) return x;
  return Dropout::apply(x, p, static_cast<int64_t>(call.next_key()));
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double p, Call& call) {
  const bool drops = call.training && p > 0;
  if (!drops && (!at::GradMode::is_enabled() || k.size(2) >= kFusedFrom)) {
    return at::scaled_dot_product_attention(q, k, v, mask.defined() ? std::optional<Tensor>(mask) : std::nullopt);
  }
  Tensor scores = at::matmul(q * (1 / std::sqrt(static_cast<double>(q.size(3)))), k.transpose(2, 3));
  if (mask.defined()) scores = scores + mask;
  const Tensor probabilities = at::softmax(scores, -1, q.scalar_type() == at::kBFloat16 ? at::kFloat : q.scalar_type());
  return at::matmul(dropout(probabilities.to(q.scalar_type()), p, call), v);
}

Tensor attention_bias(const Tensor& attention_mask, at::ScalarType dtype) {
  if (attention_mask.ne(0).all().item<bool>()) return {};
  const double lowest = dtype == at::kDouble  ? std::numeric_limits<double>::lowest()
                        : dtype == at::kFloat ? std::numeric_limits<float>::lowest()
                                              : static_cast<double>(std::numeric_limits<at::BFloat16>::lowest());
  const Tensor masked = attention_mask.eq(0).unsqueeze(1).unsqueeze(2);
  return at::zeros(masked.sizes(), attention_mask.options().dtype(dtype)).masked_fill_(masked, lowest);
}

std::function<Tensor(const Tensor&)> activation(const std::string& name) {
  if (name == "gelu" || name == "gelu_python") return [](const Tensor& x) { return at::gelu(x); };
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") {
    return [](const Tensor& x) { return at::gelu(x, "tanh"); };
  }
  if (name == "relu") return [](const Tensor& x) { return at::relu(x); };
  if (name == "silu" || name == "swish") return [](const Tensor& x) { return at::silu(x); };
  if (name == "tanh") return [](const Tensor& x) { return at::tanh(x); };
  throw Error({.id = "config.unsupported",
               .what = "activation '" + name + "' is not implemented",
               .where = "config.json, key \"hidden_act\"",
               .fix = "supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu, tanh"});
}

}  // namespace deltaw::ops

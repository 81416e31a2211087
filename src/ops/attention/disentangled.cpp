#include "ops/attention/disentangled.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

#include "ops/attention/attention_kernel.h"
#include "ops/checkpoint.h"
#include "ops/layers.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Plan : torch::CustomClassHolder {
  AttentionSettings settings;
  Tensor vector_of;

  // Of the distances from the queries to the keys, in the order that the kernel asks for.
  Tensor to_keys(const Tensor& q, const Tensor& k) const {
    return vector_of.narrow(0, k.size(2) - q.size(2), k.size(2) + q.size(2) - 1);
  }
  Tensor to_queries(const Tensor& q, const Tensor& k) const { return to_keys(q, k).flip(0); }
};

// Vectors by distance, and back: the gradient of vectors from that.
Tensor chosen(const Tensor& vectors, const Tensor& which) {
  return vectors.defined() ? vectors.index_select(0, which) : Tensor();
}
Tensor gathered(const Tensor& gradient, const Tensor& vectors, const Tensor& which) {
  if (!vectors.defined()) return {};
  return at::zeros(vectors.sizes(), gradient.options()).index_add_(0, which, gradient).to(vectors.scalar_type());
}

// What is kept is q, k, v, the vectors and two numbers for each query.
class BlockAttention : public torch::autograd::Function<BlockAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys,
                        const Tensor& queries, const c10::intrusive_ptr<Plan>& plan) {
    const AttentionOutput out = attention_forward(input(q, k, v, keys, queries, *plan), plan->settings);
    ctx->save_for_backward({q, k, v, keys, queries, out.normalisers});
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return out.mixed;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*holder);
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &keys = saved[3], &queries = saved[4];
    const AttentionInput d =
        attention_backward(input(q, k, saved[2], keys, queries, plan), saved[5], gradients[0], plan.settings);
    return {d.q,
            d.k,
            d.v,
            gathered(d.to_keys, keys, plan.to_keys(q, k)),
            gathered(d.to_queries, queries, plan.to_queries(q, k)),
            Tensor()};
  }

 private:
  static AttentionInput input(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keys,
                              const Tensor& queries, const Plan& plan) {
    return {q, k, v, chosen(keys, plan.to_keys(q, k)), chosen(queries, plan.to_queries(q, k))};
  }
};

// Row i, column j: the vector of the distance from query i to key j. [queries, keys].
Tensor vectors_by_place(const Tensor& vector_of, int64_t queries, int64_t keys) {
  const Tensor places = at::arange(keys, vector_of.options());
  const Tensor distances = places.unsqueeze(0) - places.narrow(0, 0, queries).unsqueeze(1);
  return vector_of.index_select(0, (distances + (keys - 1)).flatten()).view({queries, keys});
}

// x [batch, heads, n, width] against each of vectors [vectors, heads, width]: of row r those in chosen [n, m].
Tensor products(const Tensor& x, const Tensor& vectors, const Tensor& chosen) {
  const Tensor all = at::matmul(x, vectors.permute({1, 2, 0}));
  return all.gather(-1, chosen.expand({x.size(0), x.size(1), -1, -1}));
}

Tensor scores_of(const Tensor& q, const Tensor& k, const DistanceVectors& distances) {
  Tensor scores = at::matmul(q, k.transpose(2, 3));
  const Tensor chosen = vectors_by_place(distances.vector_of, q.size(2), k.size(2));
  if (distances.keys.defined()) scores = scores + products(q, distances.keys, chosen);
  if (distances.queries.defined()) scores = scores + products(k, distances.queries, chosen.t()).transpose(2, 3);
  return scores;
}

// As it is written, for what no kernel has: float64, other devices. The scores are computed again in the backward pass.
Tensor in_steps(const Tensor& q, const Tensor& k, const Tensor& v, const DistanceVectors& distances, const Tensor& bias,
                double scale, double p, Call& call) {
  const Tensor vector_of = distances.vector_of;
  const auto block = [vector_of, bias, scale, p](const std::vector<Tensor>& inputs, Call& own) {
    const at::ScalarType type = inputs[0].scalar_type();
    Tensor scores =
        scores_of(inputs[0], inputs[1], {.keys = inputs[3], .queries = inputs[4], .vector_of = vector_of}) * scale;
    if (bias.defined()) scores = scores + bias;
    const bool narrow = scores.scalar_type() == at::kBFloat16;
    const Tensor probabilities = at::softmax(scores, -1, narrow ? at::kFloat : scores.scalar_type()).to(type);
    return at::matmul(dropout(probabilities, p, own), inputs[2]);
  };
  Call own = call;
  own.recompute = true;
  const Tensor mixed = checkpointed(block, {q, k, v, distances.keys, distances.queries}, own);
  call.draws = own.draws;
  return mixed;
}

}  // namespace

Tensor disentangled_attention(const Tensor& q, const Tensor& k, const Tensor& v, const DistanceVectors& distances,
                              const AttentionMask& mask, const AttentionForm& form, Call& call) {
  if (!distances.keys.defined() && !distances.queries.defined()) return attention(q, k, v, mask, form, call);
  const double scale = form.scale != 0 ? form.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  if (!has_kernels(q)) return in_steps(q, k, v, distances, mask.bias, scale, form.dropout, call);
  const double dropout = call.training ? form.dropout : 0;
  auto plan = c10::make_intrusive<Plan>();
  plan->settings = {.scale = scale, .dropout = dropout, .key = dropout > 0 ? call.next_key() : 0};
  if (mask.bias.defined()) plan->settings.bias = mask.bias.to(at::kFloat).contiguous();
  plan->vector_of = distances.vector_of;
  return BlockAttention::apply(q, k, v, distances.keys, distances.queries, plan);
}

}  // namespace deltaw::ops

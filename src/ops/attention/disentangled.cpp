#include "ops/attention/disentangled.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

#include "ops/attention/attention_kernel.h"
#include "ops/gradient_checkpointing.h"
#include "ops/layers.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Plan : torch::CustomClassHolder {
  AttentionSettings settings;
  Tensor vector_of;
  bool has_keys = false, has_queries = false;

  size_t queries_at() const { return has_keys ? 4 : 3; }  // among the tensors
  // Of the distances from the queries to the keys, in the order that the kernel asks for.
  Tensor to_keys(const Tensor& q, const Tensor& k) const {
    return vector_of.narrow(0, k.size(2) - q.size(2), k.size(2) + q.size(2) - 1);
  }
  Tensor to_queries(const Tensor& q, const Tensor& k) const { return to_keys(q, k).flip(0); }
};

// The gradient of vectors from that of those that were chosen.
Tensor gathered(const Tensor& gradient, const Tensor& vectors, const Tensor& which) {
  return at::zeros(vectors.sizes(), gradient.options()).index_add_(0, which, gradient).to(vectors.scalar_type());
}

// What is kept is q, k, v, the vectors and two numbers for each query.
class BlockAttention : public torch::autograd::Function<BlockAttention> {
 public:
  // `tensors`: q, k, v and the vectors that there are, keys first.
  static Tensor forward(AutogradContext* ctx, at::TensorList tensors, const c10::intrusive_ptr<Plan>& plan) {
    const AttentionOutput out = attention_forward(input(tensors, *plan), plan->settings);
    variable_list kept = tensors.vec();
    kept.push_back(out.normalisers);
    ctx->save_for_backward(kept);
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return out.mixed;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*holder);
    const variable_list kept = ctx->get_saved_variables();
    const AttentionInput d =
        attention_backward(input(kept, plan), {.normalisers = kept.back()}, gradients[0], plan.settings);
    variable_list result{d.q, d.k, d.v};
    if (plan.has_keys) result.push_back(gathered(d.to_keys, kept[3], plan.to_keys(kept[0], kept[1])));
    if (plan.has_queries) {
      result.push_back(gathered(d.to_queries, kept[plan.queries_at()], plan.to_queries(kept[0], kept[1])));
    }
    result.emplace_back();  // the plan has none
    return result;
  }

 private:
  static AttentionInput input(at::TensorList t, const Plan& plan) {
    AttentionInput in{t[0], t[1], t[2]};
    if (plan.has_keys) in.to_keys = t[3].index_select(0, plan.to_keys(t[0], t[1]));
    if (plan.has_queries) in.to_queries = t[plan.queries_at()].index_select(0, plan.to_queries(t[0], t[1]));
    return in;
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
  plan->has_keys = distances.keys.defined();
  plan->has_queries = distances.queries.defined();
  variable_list tensors{q, k, v};
  if (plan->has_keys) tensors.push_back(distances.keys);
  if (plan->has_queries) tensors.push_back(distances.queries);
  return BlockAttention::apply(at::TensorList(tensors), plan);
}

}  // namespace deltaw::ops

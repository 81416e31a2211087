#include "ops/attention/disentangled.h"

#include <cmath>
#include <vector>

#include "ops/checkpoint.h"
#include "ops/layers.h"

namespace deltaw::ops {
namespace {

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

// As it is written. The scores are computed again in the backward pass.
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
  return in_steps(q, k, v, distances, mask.bias, scale, form.dropout, call);
}

}  // namespace deltaw::ops

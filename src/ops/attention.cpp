#include "ops/attention.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "ops/layers.h"

namespace deltaw::ops {
namespace {

// Below this many keys two products and a softmax beat the fused kernel's backward pass on CPUs.
constexpr int64_t kFusedFrom = 512;

// One key head's queries stand below each other, so that its keys are read as they lie.
Tensor by_key_head(const Tensor& x, int64_t key_heads) {
  const int64_t heads = x.size(1);
  return heads == key_heads ? x : x.reshape({x.size(0), key_heads, heads / key_heads * x.size(2), x.size(3)});
}

Tensor in_steps(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask, const AttentionForm& form,
                double scale, Call& call) {
  const at::ScalarType type = q.scalar_type();
  const auto widened = [&](const Tensor& x) {
    return form.float32_scores && type == at::kBFloat16 ? x.to(at::kFloat) : x;
  };
  const Tensor rows = by_key_head(widened(q) * scale, k.size(1));
  Tensor scores = at::matmul(rows, widened(k).transpose(2, 3)).view({q.size(0), q.size(1), q.size(2), k.size(2)});
  if (form.softcap != 0) scores = at::tanh(scores / form.softcap) * form.softcap;
  if (mask.bias.defined()) scores = scores + widened(mask.bias);
  const bool narrow = scores.scalar_type() == at::kBFloat16;
  const Tensor probabilities = at::softmax(scores, -1, narrow ? at::kFloat : scores.scalar_type()).to(type);
  const Tensor mixed = at::matmul(by_key_head(dropout(probabilities, form.dropout, call), k.size(1)), v);
  return mixed.view({q.size(0), q.size(1), q.size(2), v.size(3)});
}

Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask, double scale) {
  const bool biased = mask.bias.defined() && !mask.causal;
  const auto run = [&](const Tensor& queries) {
    return at::scaled_dot_product_attention(queries, k, v, biased ? std::optional<Tensor>(mask.bias) : std::nullopt, 0,
                                            mask.causal, scale);
  };
  const int64_t group = q.size(1) / k.size(1);
  if (group == 1) return run(q);
  if (q.size(2) == 1) return run(by_key_head(q, k.size(1))).reshape(q.sizes());
  const Tensor grouped = q.reshape({q.size(0), k.size(1), group, q.size(2), q.size(3)});
  std::vector<Tensor> mixed;
  for (int64_t i = 0; i < group; ++i) mixed.push_back(run(grouped.select(2, i)));
  return at::stack(mixed, 2).flatten(1, 2);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask,
                 const AttentionForm& form, Call& call) {
  const double scale = form.scale != 0 ? form.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  const bool drops = call.training && form.dropout > 0;
  if (!drops && form.softcap == 0 && (!at::GradMode::is_enabled() || k.size(2) >= kFusedFrom)) {
    return fused(q, k, v, mask, scale);
  }
  return in_steps(q, k, v, mask, form, scale, call);
}

Tensor attention_bias(const Tensor& attention_mask, at::ScalarType dtype) {
  const Tensor kept = attention_mask.ne(0);
  if (kept.all().item<bool>()) return {};
  return bias_of(kept.unsqueeze(1).unsqueeze(2), dtype);
}

Tensor bias_of(const Tensor& seen, at::ScalarType dtype) {
  const double lowest = dtype == at::kBFloat16 ? static_cast<double>(std::numeric_limits<at::BFloat16>::lowest())
                                               : std::numeric_limits<float>::lowest();
  return at::zeros(seen.sizes(), seen.options().dtype(dtype)).masked_fill_(seen.logical_not(), lowest);
}

}  // namespace deltaw::ops

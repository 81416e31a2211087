#include "ops/attention/attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>

#include "ops/attention/attention_kernel.h"
#include "ops/host_read.h"
#include "ops/layers.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Plan : torch::CustomClassHolder {
  AttentionSettings settings;
};

class BlockAttention : public torch::autograd::Function<BlockAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const c10::intrusive_ptr<Plan>& plan) {
    const AttentionInput in{q, k, v};
    const AttentionOutput out = attention_forward(in, plan->settings);
    const bool kept = goes_back_from_output(in, plan->settings);
    ctx->save_for_backward({q, k, v, out.normalisers, kept ? out.mixed : Tensor()});
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return out.mixed;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const AttentionSettings& settings = static_cast<const Plan&>(*holder).settings;
    const variable_list saved = ctx->get_saved_variables();
    const AttentionInput d = attention_backward({saved[0], saved[1], saved[2]},
                                                {.mixed = saved[4], .normalisers = saved[3]}, gradients[0], settings);
    return {d.q, d.k, d.v, Tensor()};
  }
};

// [1, 1, queries, keys]
Tensor window_bias(int64_t queries, int64_t keys, int64_t window, const Tensor& like) {
  const int64_t before = keys - queries;
  const Tensor places = at::arange(keys, like.options().dtype(at::kLong));
  const Tensor distance = places.unsqueeze(0) - places.narrow(0, before, queries).unsqueeze(1);
  const Tensor seen = distance.abs().le(window).logical_or(places.lt(before).unsqueeze(0));
  return bias_of(seen.unsqueeze(0).unsqueeze(0), like.scalar_type());
}

AttentionMask with_window_as_bias(const AttentionMask& mask, const Tensor& q, int64_t keys) {
  if (mask.window == 0) return mask;
  const Tensor local = window_bias(q.size(2), keys, mask.window, q);
  return {.bias = mask.bias.defined() ? mask.bias + local : local};
}

// Undefined where all see all.
Tensor bias_of(const AttentionMask& mask, at::ScalarType type) {
  return mask.causal ? mask.causal->bias(type) : mask.bias;
}

// One key head's queries stand below each other, so that its keys are read as they lie.
Tensor by_key_head(const Tensor& x, int64_t key_heads) {
  const int64_t heads = x.size(1);
  return heads == key_heads ? x : x.reshape({x.size(0), key_heads, heads / key_heads * x.size(2), x.size(3)});
}

// As it is written, for what no kernel has: soft caps, float64, other devices.
Tensor in_steps(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask, const AttentionForm& form,
                double scale, Call& call) {
  const at::ScalarType type = q.scalar_type();
  const auto widened = [&](const Tensor& x) {
    return form.float32_scores && type == at::kBFloat16 ? x.to(at::kFloat) : x;
  };
  const Tensor rows = by_key_head(widened(q) * scale, k.size(1));
  Tensor scores = at::matmul(rows, widened(k).transpose(2, 3)).view({q.size(0), q.size(1), q.size(2), k.size(2)});
  if (form.softcap != 0) scores = at::tanh(scores / form.softcap) * form.softcap;
  if (const Tensor bias = bias_of(mask, type); bias.defined()) scores = scores + widened(bias);
  const bool narrow = scores.scalar_type() == at::kBFloat16;
  const Tensor probabilities = at::softmax(scores, -1, narrow ? at::kFloat : scores.scalar_type()).to(type);
  const Tensor mixed = at::matmul(by_key_head(dropout(probabilities, form.dropout, call), k.size(1)), v);
  return mixed.view({q.size(0), q.size(1), q.size(2), v.size(3)});
}

// torch's kernel.
Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask, double scale) {
  const bool causal = mask.causal && mask.causal->all() && q.size(2) == k.size(2);
  const Tensor bias = causal ? Tensor() : bias_of(mask, q.scalar_type());
  const auto run = [&](const Tensor& queries) {
    return at::scaled_dot_product_attention(queries, k, v, bias.defined() ? std::optional<Tensor>(bias) : std::nullopt,
                                            0, causal, scale);
  };
  const int64_t key_heads = k.size(1), group = q.size(1) / key_heads;
  if (group == 1) return run(q);
  if (q.size(2) == 1) {  // the queries of one key head stand below each other, so that its keys are read as they lie
    return run(q.reshape({q.size(0), key_heads, group, q.size(3)})).reshape(q.sizes());
  }
  const Tensor grouped = q.reshape({q.size(0), key_heads, group, q.size(2), q.size(3)});
  std::vector<Tensor> mixed;
  for (int64_t i = 0; i < group; ++i) mixed.push_back(run(grouped.select(2, i)));
  return at::stack(mixed, 2).flatten(1, 2);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& given,
                 const AttentionForm& form, Call& call) {
  const double scale = form.scale != 0 ? form.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  const double dropout = call.training ? form.dropout : 0;
  // One query has nothing to reuse: the whole of it is reading the keys.
  const bool torchs = q.size(2) == 1 && !at::GradMode::is_enabled() && dropout == 0;
  const bool in_parts =
      form.softcap != 0 || (at::GradMode::is_enabled() && given.bias.defined() && given.bias.requires_grad());
  const bool by_block = has_kernels(q) && !in_parts && !torchs;
  const bool window_by_block = by_block && q.size(2) == k.size(2);
  const AttentionMask mask = window_by_block ? given : with_window_as_bias(given, q, k.size(2));
  if (!by_block)
    return dropout == 0 && !in_parts ? fused(q, k, v, mask, scale) : in_steps(q, k, v, mask, form, scale, call);
  auto plan = c10::make_intrusive<Plan>();
  plan->settings = {.scale = scale,
                    .dropout = dropout,
                    .key = dropout > 0 ? call.next_key() : 0,
                    .causal = mask.causal,
                    .window = window_by_block ? mask.window : 0};
  if (mask.bias.defined()) plan->settings.bias = mask.bias.to(at::kFloat).contiguous();
  return BlockAttention::apply(q, k, v, plan);
}

CausalKeys::CausalKeys(Tensor documents, Tensor places, int64_t queries, int64_t window)
    : places_(places.to(at::kInt).contiguous()), queries_(queries), window_(window < places.size(1) ? window : 0) {
  if (documents.defined()) documents_ = documents.to(at::kInt).contiguous();
}

const Tensor& CausalKeys::bias(at::ScalarType dtype) const {
  if (!bias_.defined() || bias_.scalar_type() != dtype) bias_ = ops::bias_of(seen(), dtype);
  return bias_;
}

Tensor CausalKeys::seen() const {
  const int64_t keys = places_.size(1);
  const auto of_queries = [&](const Tensor& x) { return x.narrow(1, keys - queries_, queries_).unsqueeze(2); };
  const auto of_keys = [](const Tensor& x) { return x.unsqueeze(1); };
  const Tensor slots = at::arange(keys, places_.options()).unsqueeze(0);
  Tensor seen = of_keys(slots).le(of_queries(slots));
  if (documents_.defined()) {
    const Tensor documents = of_keys(documents_);
    seen = seen.logical_and(documents.eq(of_queries(documents_)).logical_or(documents.eq(kEveryDocument)));
  }
  if (window_ > 0) seen = seen.logical_and((of_queries(places_) - of_keys(places_)).lt(window_));
  return seen.unsqueeze(1);
}

Tensor attention_bias(const Tensor& attention_mask, const at::TensorOptions& options) {
  const Tensor kept = attention_mask.ne(0);
  if (known_flag(kept.all())) return {};
  return bias_of(kept.unsqueeze(1).unsqueeze(2), c10::typeMetaToScalarType(options.dtype())).to(options.device());
}

Tensor bias_of(const Tensor& seen, at::ScalarType dtype) {
  const double lowest = dtype == at::kBFloat16 ? static_cast<double>(std::numeric_limits<at::BFloat16>::lowest())
                                               : std::numeric_limits<float>::lowest();
  return at::zeros(seen.sizes(), seen.options().dtype(dtype)).masked_fill_(seen.logical_not(), lowest);
}

}  // namespace deltaw::ops

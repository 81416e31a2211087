#include "ops/attention.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/random.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Scores that one thread works on at once: they stay in a core's second-level cache.
constexpr int64_t kScoresAtOnce = 64 * 1024;
constexpr int64_t kFewestQueries = 32;

struct Plan : torch::CustomClassHolder {
  Tensor bias;
  double scale = 1;
  double softcap = 0;
  double dropout = 0;
  uint64_t key = 0;  // of the dropout masks
  bool causal = false;
  bool float32_scores = false;
};

// [batch, heads, n, width] that lies in memory as [batch, n, heads, width], as linear layers have it.
Tensor empty_like_linear(const Tensor& x) {
  return at::empty({x.size(0), x.size(2), x.size(1), x.size(3)}, x.options()).transpose(1, 2);
}

// Scores and probabilities are formed block by block, never as a whole, and again in the backward pass: only q, k and v
// are kept. A block is some queries of some heads of one row of the batch; blocks of one key head follow each other in
// one thread, so that what they add to its gradients is added in a fixed order.
class Blocks {
 public:
  Blocks(const Tensor& q, const Tensor& k, const Tensor& v, const Plan& plan) : q_(q), k_(k), v_(v), plan_(plan) {
    const int64_t keys = k.size(2);
    queries_ = std::clamp(kScoresAtOnce / keys, std::min(kFewestQueries, q.size(2)), q.size(2));
    heads_ = std::clamp<int64_t>(kScoresAtOnce / (queries_ * keys), 1, k.size(1));
    tasks_per_row_ = (k.size(1) + heads_ - 1) / heads_;
    group_ = q.size(1) / k.size(1);
    score_type_ = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  }

  Tensor forward() const {
    Tensor out = empty_like_linear(q_);
    for_each_block([&](const Block& b) {
      Tensor part = b.of_queries(out);
      at::bmm_out(part, dropped(b, probabilities(b)), b.of_keys(v_));
    });
    return out;
  }

  variable_list backward(const Tensor& dout) const {
    const bool once = group_ == 1 && queries_ == q_.size(2);  // each key head is in one block
    Tensor dq = empty_like_linear(q_);
    Tensor dk = once ? empty_like_linear(k_) : at::zeros(k_.sizes(), k_.options().dtype(score_type_));
    Tensor dv = at::empty_like(dk);
    if (!once) dv.zero_();
    for_each_block([&](const Block& b) {
      const Tensor p = probabilities(b);
      const Tensor dy = b.of_queries(dout);
      const Tensor mask = plan_.dropout > 0 ? mask_of(b, p) : Tensor();
      add_product(b.of_keys(dv), (mask.defined() ? p * mask : p).transpose(1, 2), dy, 1, once);
      Tensor dp = at::bmm(dy, b.of_keys(v_).transpose(1, 2));
      if (mask.defined()) dp.mul_(mask);
      const Tensor ds = gradient_of_scores(b, p, dp);
      add_product(b.of_queries(dq), ds, b.of_keys(k_), plan_.scale, true);
      add_product(b.of_keys(dk), ds.transpose(1, 2), b.of_queries(q_), plan_.scale, once);
    });
    return {dq, dk.to(k_.scalar_type()), dv.to(v_.scalar_type())};
  }

 private:
  struct Block {
    int64_t index = 0;                      // counts the blocks
    int64_t row = 0;                        // of the batch
    int64_t head = 0, heads = 0, step = 1;  // query heads: head, head + step, ...
    int64_t key_head = 0;
    int64_t query = 0, queries = 0, keys = 0;

    Tensor of_queries(const Tensor& x) const {
      return x.select(0, row).slice(0, head, head + (heads - 1) * step + 1, step).narrow(1, query, queries);
    }
    Tensor of_keys(const Tensor& x) const { return x.select(0, row).narrow(0, key_head, heads).narrow(1, 0, keys); }
  };

  template <class Use>
  void for_each_block(const Use& use) const {
    at::parallel_for(0, q_.size(0) * tasks_per_row_, 1, [&](int64_t begin, int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView plain;  // of this thread
      for (int64_t task = begin; task < end; ++task) for_each_block_of(task, use);
    });
  }

  template <class Use>
  void for_each_block_of(int64_t task, const Use& use) const {
    Block b{.row = task / tasks_per_row_, .step = group_, .key_head = task % tasks_per_row_ * heads_};
    b.heads = std::min(heads_, k_.size(1) - b.key_head);
    const int64_t parts = (q_.size(2) + queries_ - 1) / queries_;
    for (int64_t member = 0; member < group_; ++member) {
      b.head = b.key_head * group_ + member;
      for (int64_t part = 0; part < parts; ++part) {
        b.query = part * queries_;
        b.queries = std::min(queries_, q_.size(2) - b.query);
        b.keys = plan_.causal ? b.query + b.queries : k_.size(2);
        b.index = (task * group_ + member) * parts + part;
        use(b);
      }
    }
  }

  // softmax(softcap(scale q k^T) + bias), [heads, queries, keys] in the type of the scores.
  Tensor probabilities(const Block& b) const {
    const Tensor bias = bias_of_block(b);
    Tensor scores;
    if (plan_.softcap == 0 && bias.defined() && bias.scalar_type() == product_type()) {
      scores = at::baddbmm(bias, widened(b.of_queries(q_)), widened(b.of_keys(k_)).transpose(1, 2), 1, plan_.scale);
    } else {
      scores = capped_scores(b);
      if (bias.defined()) scores.add_(bias);
    }
    return at::softmax(scores, -1, score_type_);
  }

  Tensor capped_scores(const Block& b) const {
    Tensor scores = at::bmm(widened(b.of_queries(q_)), widened(b.of_keys(k_)).transpose(1, 2)).mul_(plan_.scale);
    if (plan_.softcap != 0) scores.div_(plan_.softcap).tanh_().mul_(plan_.softcap);
    return scores;
  }

  // Of scale q k^T, less the scale; `dp` is overwritten.
  Tensor gradient_of_scores(const Block& b, const Tensor& p, const Tensor& dp) const {
    Tensor ds = at::_softmax_backward_data(dp.to(score_type_), p, -1, score_type_);
    if (plan_.softcap != 0) ds.mul_(1 - (capped_scores(b).to(score_type_) / plan_.softcap).square_());
    return ds;
  }

  // Of the scores' product.
  at::ScalarType product_type() const { return plan_.float32_scores ? score_type_ : q_.scalar_type(); }
  Tensor widened(const Tensor& x) const { return x.to(product_type()); }

  Tensor bias_of_block(const Block& b) const {
    const Tensor& bias = plan_.bias;
    if (!bias.defined()) return bias;
    const Tensor row = bias.select(0, bias.size(0) == 1 ? 0 : b.row).narrow(2, 0, b.keys);
    return row.size(1) == 1 ? row : row.narrow(1, b.query, b.queries);
  }

  Tensor mask_of(const Block& b, const Tensor& p) const {
    return dropout_mask(p, plan_.dropout, mix(plan_.key, static_cast<uint64_t>(b.index)));
  }

  Tensor dropped(const Block& b, const Tensor& p) const {
    return (plan_.dropout > 0 ? p * mask_of(b, p) : p).to(v_.scalar_type());
  }

  // total (+)= scale left right; `total` may be of a wider type than `right`.
  void add_product(Tensor total, const Tensor& left, const Tensor& right, double scale, bool first) const {
    const Tensor narrow = left.to(right.scalar_type());
    if (total.scalar_type() == right.scalar_type()) {
      at::baddbmm_out(total, total, narrow, right, first ? 0 : 1, scale);
    } else {
      total.add_(at::bmm(narrow, right), scale);
    }
  }

  const Tensor &q_, &k_, &v_;
  const Plan& plan_;
  int64_t queries_ = 0, heads_ = 0;  // of a block
  int64_t tasks_per_row_ = 0, group_ = 0;
  at::ScalarType score_type_ = at::kFloat;
};

class BlockAttention : public torch::autograd::Function<BlockAttention> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const c10::intrusive_ptr<Plan>& plan) {
    ctx->save_for_backward({q, k, v});
    ctx->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return Blocks(q, k, v, *plan).forward();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = ctx->saved_data["plan"].toCapsule();
    const variable_list saved = ctx->get_saved_variables();
    variable_list result =
        Blocks(saved[0], saved[1], saved[2], static_cast<const Plan&>(*holder)).backward(gradients[0]);
    result.emplace_back();  // of the plan
    return result;
  }
};

// torch's kernel.
Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask, double scale) {
  const bool biased = mask.bias.defined() && !mask.causal;
  const auto run = [&](const Tensor& queries) {
    return at::scaled_dot_product_attention(queries, k, v, biased ? std::optional<Tensor>(mask.bias) : std::nullopt, 0,
                                            mask.causal, scale);
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

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask,
                 const AttentionForm& form, Call& call) {
  const double scale = form.scale != 0 ? form.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  const double dropout = call.training ? form.dropout : 0;
  // Its backward pass in bf16 takes several times as long as the products in it.
  const bool slow = q.scalar_type() == at::kBFloat16 && at::GradMode::is_enabled();
  if (dropout == 0 && form.softcap == 0 && !slow) return fused(q, k, v, mask, scale);
  auto plan = c10::make_intrusive<Plan>();
  plan->bias = mask.bias;
  plan->scale = scale;
  plan->softcap = form.softcap;
  plan->dropout = dropout;
  plan->key = dropout > 0 ? call.next_key() : 0;
  plan->causal = mask.causal;
  plan->float32_scores = form.float32_scores;
  return BlockAttention::apply(q, k, v, plan);
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

// Scaled dot-product attention, for encoders and decoders.
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "deltaw/model.h"

namespace deltaw::ops {

/// Which keys the queries of a causal model see, told by numbers of the keys, so that no matrix is kept. The queries
/// are the last keys; each sees those up to itself, of its own document and of kEveryDocument, `window` places back.
class CausalKeys {
 public:
  static constexpr int64_t kEveryDocument = -1;

  /// `documents` [batch, keys], or undefined: all one; `places` [batch or 1, keys]: of a key in its document; int64.
  /// `window`: 0 for none.
  CausalKeys(at::Tensor documents, at::Tensor places, int64_t queries, int64_t window);

  const at::Tensor& documents() const { return documents_; }  // int32
  const at::Tensor& places() const { return places_; }        // int32
  int64_t window() const { return window_; }
  /// Whether each query sees all keys up to itself.
  bool all() const { return !documents_.defined() && window_ == 0; }

  /// The same as what is added to the scores, [batch or 1, 1, queries, keys]: made when it is first asked for.
  const at::Tensor& bias(at::ScalarType dtype) const;

 private:
  at::Tensor seen() const;

  at::Tensor documents_, places_;
  int64_t queries_, window_;
  mutable at::Tensor bias_;
};

/// Which keys a query sees: all where neither is given.
struct AttentionMask {
  /// [batch or 1, heads or 1, queries or 1, keys], added to the scores. One that records a gradient is no mask alone,
  /// and the scores are then kept.
  at::Tensor bias = {};
  std::shared_ptr<const CausalKeys> causal = {};
  /// Places on either side of itself that a query sees keys of; 0: all. The queries stand where the last keys do; keys
  /// before the first of them (a prefix) are seen by all.
  int64_t window = 0;
};

struct AttentionForm {
  double scale = 0;             // of the scores; 0: 1 / sqrt(width)
  double softcap = 0;           // scores become softcap tanh(scores / softcap); 0: none
  double dropout = 0;           // on the probabilities, in training
  bool float32_scores = false;  // products of queries and keys in float32 over a bf16 model
};

/// softmax(scale q k^T + bias) v, the softmax in float32 at least. q [batch, heads, queries, width]; k and v [batch,
/// key_heads, keys, width], each of their heads serving heads / key_heads neighbours -> [batch, heads, queries, width].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionMask& mask,
                     const AttentionForm& form, Call& call);

/// 0 where attention_mask [batch, seq], which stands on the host, is 1, and the lowest finite value where it is 0:
/// [batch, 1, 1, seq] of the type and on the device of `options`. Undefined when nothing is masked.
at::Tensor attention_bias(const at::Tensor& attention_mask, const at::TensorOptions& options);

/// 0 where `seen` (bool) is true, else the lowest finite value of `dtype`, or of float32 where that is wider.
at::Tensor bias_of(const at::Tensor& seen, at::ScalarType dtype);

}  // namespace deltaw::ops

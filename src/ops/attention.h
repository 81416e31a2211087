// Scaled dot-product attention, for encoders and decoders.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/model.h"

namespace deltaw::ops {

/// Which keys a query sees.
struct AttentionMask {
  at::Tensor bias;      // [batch or 1, 1, queries or 1, keys], added to the scores; undefined where all see all
  bool causal = false;  // the bias says no more than that a query sees no later key, and queries are as many as keys
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

/// 0 where attention_mask [batch, seq] is 1 and the lowest finite value where it is 0: [batch, 1, 1, seq] in `dtype`.
/// Undefined when nothing is masked.
at::Tensor attention_bias(const at::Tensor& attention_mask, at::ScalarType dtype);

/// 0 where `seen` (bool) is true, else the lowest finite value of `dtype`, or of float32 where that is wider.
at::Tensor bias_of(const at::Tensor& seen, at::ScalarType dtype);

}  // namespace deltaw::ops

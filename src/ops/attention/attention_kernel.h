// Attention on CPUs in float32 and bfloat16, forward and backward, block by block: scores never leave a core's cache,
// and what is kept for the backward pass is q, k, v and two numbers for each query.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "ops/attention/attention.h"

namespace deltaw::ops {

struct AttentionSettings {
  double scale = 1;
  double dropout = 0;  // on the probabilities
  uint64_t key = 0;    // of its masks
  std::shared_ptr<const CausalKeys> causal = {};
  int64_t window = 0;    // places on either side that a query sees keys of, with as many keys as queries; 0: all
  at::Tensor bias = {};  // float32 [batch or 1, heads or 1, queries or 1, keys], or undefined
};

/// q [batch, heads, queries, width]; k and v [batch, key_heads, keys, width]; rows of `width` without gaps.
struct AttentionInput {
  at::Tensor q, k, v;
  // Terms of the scores by distance, [keys + queries - 1, heads, width], or undefined; with them the queries stand
  // where the first keys do, each head has keys of its own, and there is no causality and no window.
  at::Tensor to_keys = {};     // met by query i at key j: j - i + queries - 1
  at::Tensor to_queries = {};  // met by key j at query i: i - j + keys - 1

  bool tells_distances() const { return to_keys.defined() || to_queries.defined(); }
};

/// The output, and of each query the greatest score and the reciprocal of the sum that its probabilities are divided
/// by: float32 [batch, heads, queries, 2]. The output lies in memory as [batch, queries, heads, width], as the linear
/// layer behind it wants it.
struct AttentionOutput {
  at::Tensor mixed, normalisers;
};
AttentionOutput attention_forward(const AttentionInput& input, const AttentionSettings& settings);

/// A block of queries takes as many keys together; of more that it sees it takes a part at a time.
constexpr int64_t kKeysAtOnce = 512;

/// Whether attention_backward reads the output: where keys are taken a part at a time.
bool goes_back_from_output(const AttentionInput& input, const AttentionSettings& settings);

/// Gradients of q, k and v, with their shapes and with the output's layout; those of the terms by distance in float32.
AttentionInput attention_backward(const AttentionInput& input, const AttentionOutput& out, const at::Tensor& dmixed,
                                  const AttentionSettings& settings);

}  // namespace deltaw::ops

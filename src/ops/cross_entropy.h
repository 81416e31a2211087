// The losses of causal language models.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

namespace deltaw::ops {

/// Mean cross entropy of logits [batch, seq, vocabulary] at position i with token_labels [batch, seq] at i + 1, over
/// the labels that are not -100; in float32 at least.
at::Tensor causal_loss(const at::Tensor& logits, const at::Tensor& token_labels);

/// From features [tokens, hidden] to logits [tokens, vocabulary].
using Head = std::function<at::Tensor(const at::Tensor&)>;

/// Sum over the tokens of the cross entropy of head(features) with labels [tokens], in float32 at least. Logits are
/// made and dropped some tokens at a time, and where a gradient is recorded it is computed along with them: logits are
/// never kept. `trained` are the tensors behind `head` that want a gradient.
at::Tensor chunked_cross_entropy(const at::Tensor& features, const at::Tensor& labels, int64_t vocabulary,
                                 const Head& head, const std::vector<at::Tensor>& trained, double label_smoothing = 0);

/// Calls use(begin, logits [count, vocabulary]) for the tokens from `begin` on, some at a time, in float32 at least and
/// without gradients. Features are [tokens, hidden].
void each_chunk(const at::Tensor& features, int64_t vocabulary, const Head& head,
                const std::function<void(int64_t begin, const at::Tensor& logits)>& use);

/// Bytes at work while any of these goes over so many tokens, beside the features.
double chunk_bytes(int64_t vocabulary, double tokens);

/// chunked_cross_entropy's terms of every token: [tokens], without gradients.
at::Tensor token_cross_entropy(const at::Tensor& features, const at::Tensor& labels, int64_t vocabulary,
                               const Head& head);

}  // namespace deltaw::ops

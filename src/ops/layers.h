// The small operations that models are written in.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "deltaw/model.h"

namespace deltaw::ops {

/// Rows of the table: ids [...] int64 -> [..., width].
at::Tensor embedding(const at::Tensor& ids, const Embedding& table, const Call& call);

/// Normalised over the last axis; statistics in float32 at least.
at::Tensor normalised(const at::Tensor& x, const Norm& norm, const Call& call);

/// Zeroes elements with probability p in training and scales the rest by 1 / (1 - p). The mask is drawn again in the
/// backward pass, not kept.
at::Tensor dropout(const at::Tensor& x, double p, Call& call);

/// softmax(q k^T / sqrt(width) + mask) v, with dropout on the probabilities in training.
/// q, k, v [batch, heads, seq, width]; mask [batch, 1, 1, seq], added; undefined for none.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask, double p,
                     Call& call);

/// 0 where attention_mask [batch, seq] is 1 and the lowest finite value where it is 0: [batch, 1, 1, seq] in `dtype`.
/// Undefined when nothing is masked.
at::Tensor attention_bias(const at::Tensor& attention_mask, at::ScalarType dtype);

/// The activation that config.json calls `name`. Throws config.unsupported.
std::function<at::Tensor(const at::Tensor&)> activation(const std::string& name);

}  // namespace deltaw::ops

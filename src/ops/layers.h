// The small operations that models are written in.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/model.h"

namespace deltaw::ops {

/// The parameter in this pass, which may be the adapter's, as `type`; undefined where it does not exist.
at::Tensor value_of(const Parameter& parameter, const Call& call, at::ScalarType type);

/// Rows of the table: ids [...] int64 -> [..., width].
at::Tensor embedding(const at::Tensor& ids, const Embedding& table, const Call& call);

/// Zeroes elements with probability p in training and scales the rest by 1 / (1 - p). The mask is drawn again in the
/// backward pass, not kept.
at::Tensor dropout(const at::Tensor& x, double p, Call& call);

}  // namespace deltaw::ops

// The small operations that models are written in.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "deltaw/model.h"

namespace deltaw::ops {

/// Rows of the table: ids [...] int64 -> [..., width].
at::Tensor embedding(const at::Tensor& ids, const Embedding& table, const Call& call);

/// Normalised over the last axis as the norm says; statistics in float32 at least.
at::Tensor normalised(const at::Tensor& x, const Norm& norm, const Call& call);

/// Zeroes elements with probability p in training and scales the rest by 1 / (1 - p). The mask is drawn again in the
/// backward pass, not kept.
at::Tensor dropout(const at::Tensor& x, double p, Call& call);

/// The activation that config.json calls `name`. Throws config.unsupported naming `key`.
std::function<at::Tensor(const at::Tensor&)> activation(const std::string& name, const char* key = "hidden_act");

}  // namespace deltaw::ops

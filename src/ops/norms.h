// LayerNorm (Ba et al. 2016, arXiv:1607.06450) and RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467), alone and
// behind a residual sum. On CPUs in float32 and bfloat16 each is one pass that keeps its input and two numbers a row.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/model.h"

namespace deltaw::ops {

/// x [..., width] normalised over its last axis as the norm says; statistics in float32 at least.
at::Tensor normalised(const at::Tensor& x, const Norm& norm, const Call& call);

struct Sum {
  at::Tensor sum, normalised;
};
/// x + residual and its norm; both [..., width] and of one type.
Sum add_normalised(const at::Tensor& x, const at::Tensor& residual, const Norm& norm, const Call& call);

}  // namespace deltaw::ops

// The turn of rotary position embeddings (Su et al. 2021, arXiv:2104.09864) in one pass.
#pragma once

#include <ATen/ATen.h>

namespace deltaw::ops {

/// x [batch, heads, seq, width], of which the pairs (i, i + half) of the first 2 * half numbers turn by the angle with
/// these cosines and sines, [batch, 1, seq, half] in x's type; batch and seq may be 1 for all alike. The rest of a head
/// is copied. Keeps the angles alone, which get no gradient.
at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace deltaw::ops

// Products with a frozen matrix of few entries, all of one magnitude: RandLoRA's very sparse bases. They add and
// subtract rows and skip what is zero.
#pragma once

#include <ATen/ATen.h>

namespace deltaw::ops {

/// a b: at::mm, but for float32 on a CPU where one of them holds few entries c and -c. What is known of such a matrix
/// is kept for as long as its memory lives, which must not be written meanwhile. Equal to at::mm but for rounding.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

}  // namespace deltaw::ops

// Sums over the rows of [rows, n], which the gradients of gains and biases are. Float32 and bfloat16 are read once and
// summed in float32, whatever the number of threads in the same order; the rest goes to ATen.
#pragma once

#include <ATen/ATen.h>

namespace deltaw::ops {

/// The sum of the rows of x, [n]; float32 where x is bfloat16, else of x's type.
at::Tensor sum_of_rows(const at::Tensor& x);

/// The sum of the rows of x * y, both [rows, n] of one type; as above.
at::Tensor sum_of_products(const at::Tensor& x, const at::Tensor& y);

}  // namespace deltaw::ops

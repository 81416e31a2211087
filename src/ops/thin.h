// Products among matrices of three shapes: wide [tokens, n], thin [tokens, k], and a factor [k, n] between them, k a
// few tens at most. A general product takes longer over them than reading the wide one does. All three are of one type;
// float32 on a CPU has kernels, the rest goes to ATen. Results do not depend on the number of threads.
#pragma once

#include <ATen/ATen.h>

namespace deltaw::ops {

/// Above this width the general product keeps up.
constexpr int64_t kThin = 32;

/// wide factor^T.
at::Tensor thin_of(const at::Tensor& wide, const at::Tensor& factor);

/// thin^T wide.
at::Tensor factor_of(const at::Tensor& thin, const at::Tensor& wide);

/// Both, reading `wide` once: wide factor^T, and thin^T wide.
struct ThinAndFactor {
  at::Tensor thin, factor;
};
ThinAndFactor thin_and_factor_of(const at::Tensor& wide, const at::Tensor& factor, const at::Tensor& thin);

/// thin factor + bias [n], which may be undefined.
at::Tensor wide_of(const at::Tensor& thin, const at::Tensor& factor, const at::Tensor& bias = {});

/// wide += thin factor.
void add_wide(at::Tensor& wide, const at::Tensor& thin, const at::Tensor& factor);

}  // namespace deltaw::ops

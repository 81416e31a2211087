// Sums that begin with nothing.
#pragma once

#include <ATen/ATen.h>

namespace deltaw::ops {

/// sum + term; an undefined one of them counts for nothing.
inline at::Tensor plus(const at::Tensor& sum, const at::Tensor& term) {
  if (!sum.defined()) return term;
  return term.defined() ? sum + term : sum;
}

}  // namespace deltaw::ops

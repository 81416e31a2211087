// Masks that follow from keys, so that a backward pass can draw again what it did not keep.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace deltaw::ops {

/// A tensor like `like` whose elements are 1 / (1 - p) with probability 1 - p, else 0. The same key gives the same
/// mask, whatever the number of threads.
at::Tensor dropout_mask(const at::Tensor& like, double p, uint64_t key);

/// The first n numbers of such a mask.
void fill_dropout_mask(float* out, int64_t n, double p, uint64_t key);

}  // namespace deltaw::ops

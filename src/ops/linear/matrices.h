// Steps on matrices that the files of this room share.
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace deltaw::ops {

using Tensors = std::vector<at::Tensor>;

/// `tensor` in the type of `like`.
inline at::Tensor as(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.scalar_type() == like.scalar_type() ? tensor : tensor.to(like.scalar_type());
}

/// diag(gain) matrix.
inline at::Tensor scaled_rows(const at::Tensor& matrix, const at::Tensor& gain) {
  return matrix * as(gain, matrix).unsqueeze(1);
}

/// matrix diag(gain), for a gain that may be undefined.
inline at::Tensor scaled_columns(const at::Tensor& matrix, const at::Tensor& gain) {
  return gain.defined() ? matrix * as(gain, matrix) : matrix;
}

/// sum += left right. A sum that is undefined begins here; it may be of a wider type.
inline void add_product_to(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  if (!sum.defined()) {
    sum = at::mm(left, right);
  } else if (sum.scalar_type() == left.scalar_type()) {
    sum.addmm_(left, right);
  } else {
    sum.add_(at::mm(left, right));
  }
}

/// Whether both are the same numbers in memory.
inline bool same_matrix(const at::Tensor& a, const at::Tensor& b) {
  return a.const_data_ptr() == b.const_data_ptr() && a.sizes() == b.sizes() && a.strides() == b.strides();
}

}  // namespace deltaw::ops

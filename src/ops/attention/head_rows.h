// What attention's kernel reads and writes.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ops/vectors.h"

namespace deltaw::ops {

/// Rows [n, width] of one head of x [batch, heads, n, width], in x's type; those of x lie without gaps.
template <class Scalar>
struct HeadRows {
  Scalar* data;
  int64_t stride, width;

  HeadRows(const at::Tensor& x, int64_t row, int64_t head)
      : data(x.data_ptr<Scalar>() + row * x.stride(0) + head * x.stride(1)), stride(x.stride(2)), width(x.size(3)) {}

  template <class Operand>
  void read(int64_t first, int64_t count, Operand& to) const {
    to.read(data + first * stride, stride, count);
  }
  void read(int64_t i, float* to) const {
    if constexpr (std::is_same_v<Scalar, float>) {
      std::memcpy(to, data + i * stride, static_cast<size_t>(width) * sizeof(float));
    } else {
      widen(data + i * stride, to, width);
    }
  }
  void write(int64_t first, int64_t count, const float* from, int64_t from_row) const {
    for (int64_t i = 0; i < count; ++i) {
      Scalar* row = data + (first + i) * stride;
      if constexpr (std::is_same_v<Scalar, float>) {
        std::memcpy(row, from + i * from_row, static_cast<size_t>(width) * sizeof(float));
      } else {
        narrow(from + i * from_row, row, width);
      }
    }
  }
};

}  // namespace deltaw::ops

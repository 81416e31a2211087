// A matrix in eight bits, by rows: x ~ diag(t) X with t the largest magnitude of a row over 127, and X = x / t rounded
// to whole numbers from -127 to 127.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace deltaw::ops {

class Int8Rows {
 public:
  /// Of x [rows, width]; of x diag(factors) where there are any, [width]. A row of zeros has codes of zero, one with a
  /// number that is not finite NaN as its scale.
  explicit Int8Rows(const at::Tensor& x, const at::Tensor& factors = {});

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }

  /// X in left tiles (ops/int8/blocks.h), those of a row of tiles one behind the other.
  const int8_t* codes() const { return codes_.const_data_ptr<int8_t>(); }
  /// t, and the sum of each row of X. What is beyond the last row is zero.
  const float* scales() const { return scales_.const_data_ptr<float>(); }
  const int32_t* sums() const { return sums_.const_data_ptr<int32_t>(); }

 private:
  int64_t rows_, width_;
  at::Tensor codes_, scales_, sums_;
};

}  // namespace deltaw::ops

// A frozen W0 [d_out, d_in] in eight bits: W0 = diag(s) C.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "ops/int8/blocks.h"

namespace deltaw::ops {

/// C, held once and in the order in which x C^T reads it; for y C it is turned part by part (ops/int8/blocks.h).
class Int8Weight {
 public:
  Int8Weight() = default;
  /// `codes` int8 [d_out, d_in], `scales` [d_out].
  Int8Weight(const at::Tensor& codes, const at::Tensor& scales);

  int64_t d_out() const { return d_out_; }
  int64_t d_in() const { return d_in_; }
  /// C in rows, int8 [d_out, d_in], made anew by every call; and s, float32 [d_out].
  at::Tensor codes() const;
  const at::Tensor& scales() const { return scales_; }
  /// diag(gain) W0, of the same codes.
  Int8Weight scaled(const at::Tensor& gain) const;

  /// The right side of x C^T: tiles of C^T.
  RightTiles tiles() const { return {tiles_.const_data_ptr<int8_t>(), d_in_, d_out_}; }
  /// Of codes and scales.
  int64_t nbytes() const;

 private:
  int64_t d_out_ = 0, d_in_ = 0;
  at::Tensor tiles_, scales_;
};

}  // namespace deltaw::ops

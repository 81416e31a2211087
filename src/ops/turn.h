// A small matrix of numbers of four bytes, turned, in one thread.
#pragma once

#include <cstdint>

#include "ops/vectors.h"

namespace deltaw::ops {

/// A float or a pair of bfloat16 numbers.
using Bits = uint32_t __attribute__((may_alias));

/// to [columns, rows] <- from [rows, columns], with rows `from_row` and `to_row` apart.
void turn(const Bits* from, int64_t from_row, int64_t rows, int64_t columns, Bits* to, int64_t to_row);
inline void turn(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  turn(reinterpret_cast<const Bits*>(from), from_row, rows, columns, reinterpret_cast<Bits*>(to), to_row);
}

}  // namespace deltaw::ops

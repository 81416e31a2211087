// Products of small matrices, in one thread: what lies in a core's cache already. The result is in float32, the two
// matrices are too, or they are in bfloat16, where the processor has units for it.
#pragma once

#include <cstdint>

#include "ops/vectors.h"

namespace deltaw::ops {

/// As wide as the widest vectors, at any address.
using Vector = float __attribute__((vector_size(64), aligned(4)));
constexpr int64_t kVectorLanes = 16;

/// Columns of a tile.
constexpr int64_t kTileColumns = 2 * kVectorLanes;

/// Two bfloat16 numbers that follow each other along the depth of a product, the first in the low half.
using Pair = uint32_t;

/// The left matrix, in floats or in pairs: element (i, k) at data[i * row + k * column].
template <class Number>
struct Left {
  const Number* data;
  int64_t row, column;
};

/// The right one: element (k, j) at data[k * row + j].
template <class Number>
struct Right {
  const Number* data;
  int64_t row;
};

/// From row `rows` on; of pairs that stand along the depth an even number of them.
template <class Number>
Left<Number> below(Left<Number> x, int64_t rows) {
  return {x.data + rows * x.row, x.row, x.column};
}
inline Right<float> below(Right<float> x, int64_t rows) {
  return {x.data + rows * x.row, x.row};
}
inline Right<Pair> below(Right<Pair> x, int64_t rows) {
  return {x.data + rows / 2 * x.row, x.row};
}

/// From column `columns` on.
template <class Number>
Right<Number> beside(Right<Number> x, int64_t columns) {
  return {x.data + columns, x.row};
}

/// Where the product goes: to what c holds already, or in its place.
enum class Into { sum, fresh };

/// c [rows, columns] += a [rows, depth] b [depth, columns], or c = a b. `columns` is a multiple of kVectorLanes; rows
/// of c are `c_row` apart.
void add_product(Left<float> a, Right<float> b, float* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth,
                 Into into = Into::sum);
#if defined(DELTAW_BF16_UNITS)
/// The same of pairs: behind an odd depth stands a zero in both matrices. Needs has_bf16_units().
void add_product(Left<Pair> a, Right<Pair> b, float* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth,
                 Into into = Into::sum);
#endif

}  // namespace deltaw::ops

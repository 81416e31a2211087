// Products of small float32 matrices, in one thread: what lies in a core's cache already.
#pragma once

#include <cstdint>

namespace deltaw::ops {

/// As wide as the widest vectors, at any address.
using Vector = float __attribute__((vector_size(64), aligned(4)));
constexpr int64_t kVectorLanes = 16;

/// Columns of a tile.
constexpr int64_t kTileColumns = 2 * kVectorLanes;

/// A matrix in floats: element (i, j) at data[i * row + j * column].
struct Left {
  const float* data;
  int64_t row, column;
};

/// c [rows, columns] += a [rows, depth] b [depth, columns]. `columns` is a multiple of kTileColumns;
/// rows of b and c are `b_row` and `c_row` apart.
void add_product(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t columns,
                 int64_t depth);

}  // namespace deltaw::ops

// Products of small or thin float32 matrices, for which a general product takes longer than reading them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace deltaw::ops {

/// Columns of a tile: two of the widest vectors.
constexpr int64_t kTileColumns = 32;

/// A matrix in floats: element (i, j) at data[i * row + j * column].
struct Left {
  const float* data;
  int64_t row, column;
};

/// c [rows, columns] += a [rows, depth] b [depth, columns], in one thread. `columns` is a multiple of kTileColumns;
/// rows of b and c are `b_row` and `c_row` apart.
void add_product(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t columns,
                 int64_t depth);

/// thin^T wide, [k, n], of thin [tokens, k] and wide [tokens, n] of one type: at::mm, but faster where k is a few tens.
/// The same whatever the number of threads.
at::Tensor thin_product(const at::Tensor& thin, const at::Tensor& wide);

}  // namespace deltaw::ops

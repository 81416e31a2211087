#include "ops/tiles.h"

#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

constexpr int kTileRows = 8;

// c += a b over one tile; b and c have kTileColumns columns.
template <int kRows>
DELTAW_INLINE inline void tile(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t depth) {
  Vector sum[kRows][2];
  for (int i = 0; i < kRows; ++i) {
    sum[i][0] = *reinterpret_cast<const Vector*>(c + i * c_row);
    sum[i][1] = *reinterpret_cast<const Vector*>(c + i * c_row + kVectorLanes);
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vector low = *reinterpret_cast<const Vector*>(b + k * b_row);
    const Vector high = *reinterpret_cast<const Vector*>(b + k * b_row + kVectorLanes);
    for (int i = 0; i < kRows; ++i) {
      const float factor = a.data[i * a.row + k * a.column];
      sum[i][0] += factor * low;
      sum[i][1] += factor * high;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    *reinterpret_cast<Vector*>(c + i * c_row) = sum[i][0];
    *reinterpret_cast<Vector*>(c + i * c_row + kVectorLanes) = sum[i][1];
  }
}

}  // namespace

DELTAW_VECTORISED
void add_product(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t columns,
                 int64_t depth) {
  for (int64_t j = 0; j < columns; j += kTileColumns) {
    int64_t i = 0;
    for (; i + kTileRows <= rows; i += kTileRows) {
      tile<kTileRows>({a.data + i * a.row, a.row, a.column}, b + j, b_row, c + i * c_row + j, c_row, depth);
    }
    for (; i + kTileRows / 2 <= rows; i += kTileRows / 2) {
      tile<kTileRows / 2>({a.data + i * a.row, a.row, a.column}, b + j, b_row, c + i * c_row + j, c_row, depth);
    }
    for (; i < rows; ++i) {
      tile<1>({a.data + i * a.row, a.row, a.column}, b + j, b_row, c + i * c_row + j, c_row, depth);
    }
  }
}

}  // namespace deltaw::ops

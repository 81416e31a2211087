#include "ops/tiles.h"

#include <type_traits>

#include "ops/matrix_units.h"
#if defined(DELTAW_BF16_UNITS)
#include <immintrin.h>
#endif

namespace deltaw::ops {
namespace {

constexpr int kTileRows = 8;

// c += a b over one tile of kVectors vectors a row, or c = a b.
template <int kRows, int kVectors>
DELTAW_INLINE inline void tile(Left<float> a, Right<float> b, float* c, int64_t c_row, int64_t depth, Into into) {
  Vector sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = into == Into::sum ? *reinterpret_cast<const Vector*>(c + i * c_row + v * kVectorLanes) : Vector{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      right[v] = *reinterpret_cast<const Vector*>(b.data + k * b.row + v * kVectorLanes);
    }
    for (int i = 0; i < kRows; ++i) {
      const float factor = a.data[i * a.row + k * a.column];
      for (int v = 0; v < kVectors; ++v) sum[i][v] += factor * right[v];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Vector*>(c + i * c_row + v * kVectorLanes) = sum[i][v];
  }
}

#if defined(DELTAW_BF16_UNITS)
// A function of its own: what is for one processor is not inlined into what is for all. Without `unroll` the sums go
// through memory.
template <int kRows, int kVectors>
DELTAW_BF16_UNITS void tile(Left<Pair> a, Right<Pair> b, float* c, int64_t c_row, int64_t pairs, Into into) {
  __m512 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = into == Into::sum ? _mm512_loadu_ps(c + i * c_row + v * kVectorLanes) : _mm512_setzero_ps();
    }
  }
  for (int64_t k = 0; k < pairs; ++k) {
    __m512bh right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      right[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b.data + k * b.row + v * kVectorLanes));
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Pair factor = a.data[i * a.row + k * a.column];
      const auto factors = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(factor)));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], factors, right[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + i * c_row + v * kVectorLanes, sum[i][v]);
  }
}
#endif

// tile(rows, vectors, a, b, c) for each tile, `rows` and `vectors` as constants of their types.
template <class Number, class Tile>
DELTAW_INLINE inline void for_each_tile(Left<Number> a, Right<Number> b, float* c, int64_t c_row, int64_t rows,
                                        int64_t columns, const Tile& tile) {
  const auto down = [&](auto vectors, int64_t j) DELTAW_INLINE {
    const Right<Number> right{b.data + j, b.row};
    int64_t i = 0;
    const auto run = [&](auto count) DELTAW_INLINE {
      for (; i + count <= rows; i += count) {
        tile(count, vectors, Left<Number>{a.data + i * a.row, a.row, a.column}, right, c + i * c_row + j);
      }
    };
    run(std::integral_constant<int, kTileRows>());
    run(std::integral_constant<int, kTileRows / 2>());
    run(std::integral_constant<int, 1>());
  };
  int64_t j = 0;
  for (; j + kTileColumns <= columns; j += kTileColumns) down(std::integral_constant<int, 2>(), j);
  if (j < columns) down(std::integral_constant<int, 1>(), j);
}

}  // namespace

DELTAW_VECTORISED
void add_product(Left<float> a, Right<float> b, float* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth,
                 Into into) {
  for_each_tile(a, b, c, c_row, rows, columns,
                [&](auto count, auto vectors, Left<float> left, Right<float> right, float* to)
                    DELTAW_INLINE { tile<count, vectors>(left, right, to, c_row, depth, into); });
}

#if defined(DELTAW_BF16_UNITS)
// Whole tiles go to the matrix units, where there are any: the first pairs of the first rows.
void add_product(Left<Pair> a, Right<Pair> b, float* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth,
                 Into into) {
  const int64_t pairs = (depth + 1) / 2;
  const auto add_by_vectors = [&](int64_t row, int64_t end, int64_t pair) {
    for_each_tile(Left<Pair>{a.data + row * a.row + pair * a.column, a.row, a.column},
                  Right<Pair>{b.data + pair * b.row, b.row}, c + row * c_row, c_row, end - row, columns,
                  [&](auto count, auto vectors, Left<Pair> left, Right<Pair> right, float* to) {
                    tile<count, vectors>(left, right, to, c_row, pairs - pair, pair > 0 ? Into::sum : into);
                  });
  };
#if defined(DELTAW_MATRIX_UNITS)
  const int64_t unit_rows = rows / kUnitEdge * kUnitEdge, unit_pairs = pairs / kUnitEdge * kUnitEdge;
  if (unit_rows > 0 && unit_pairs > 0 && has_matrix_units()) {
    add_product_in_units(a, b, c, c_row, unit_rows, columns, unit_pairs, into);
    if (unit_pairs < pairs) add_by_vectors(0, unit_rows, unit_pairs);
    return add_by_vectors(unit_rows, rows, 0);
  }
#endif
  add_by_vectors(0, rows, 0);
}
#endif

}  // namespace deltaw::ops

#include "ops/int8/product.h"

#include <algorithm>

#include "core/aligned.h"
#include "ops/int8/blocks.h"
#include "ops/vectors.h"
#if defined(DELTAW_BF16_UNITS)
#include <immintrin.h>
// Of what the header's own functions leave undefined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace deltaw::ops {
namespace {

using at::Tensor;

// A task is as many blocks of rows by as many of columns, of which the latter stay in a core's cache.
constexpr int64_t kStripBlocks = 8, kPartBlocks = 8;
constexpr int64_t kPartCodes = 1 << 20;

int64_t part_blocks(int64_t block_codes) {
  return std::clamp<int64_t>(kPartCodes / std::max<int64_t>(1, block_codes), 1, kPartBlocks);
}

// y <- diag(t) c diag(s) + start: one block of int32 sums on its way out. `start` is a row of numbers for all rows, or
// null where y holds them.
struct Outlet {
  const int32_t* c;
  const float *t, *s, *start;
  int64_t rows, columns;
};

DELTAW_VECTORISED
void leave(const Outlet& from, float* y, int64_t y_row) {
  for (int64_t i = 0; i < from.rows; ++i) {
    const float* start = from.start ? from.start : y + i * y_row;
    const int32_t* c = from.c + i * kBlockEdge;
    const float t = from.t[i];
    DELTAW_INDEPENDENT
    for (int64_t j = 0; j < from.columns; ++j) y[i * y_row + j] = static_cast<float>(c[j]) * from.s[j] * t + start[j];
  }
}

DELTAW_VECTORISED
void leave_by_bits(const Outlet& from, at::BFloat16* y, int64_t y_row) {
  for (int64_t i = 0; i < from.rows; ++i) {
    const int32_t* c = from.c + i * kBlockEdge;
    at::BFloat16* row = y + i * y_row;
    const float t = from.t[i];
    DELTAW_INDEPENDENT
    for (int64_t j = 0; j < from.columns; ++j) {
      const float start = from.start ? from.start[j] : std::bit_cast<float>(static_cast<uint32_t>(row[j].x) << 16);
      const float sum = static_cast<float>(c[j]) * from.s[j] * t + start;
      row[j].x = static_cast<uint16_t>(std::bit_cast<uint32_t>(rounded(sum)) >> 16);
    }
  }
}

#if defined(DELTAW_BF16_UNITS)
DELTAW_BF16_UNITS
void leave_in_units(const Outlet& from, at::BFloat16* y, int64_t y_row) {
  for (int64_t first = 0; first < from.columns; first += kTileEdge) {
    const auto there =
        static_cast<__mmask16>(from.columns - first < kTileEdge ? (1 << (from.columns - first)) - 1 : 0xFFFF);
    const __m512 s = _mm512_loadu_ps(from.s + first);
    const __m512 start = from.start ? _mm512_loadu_ps(from.start + first) : _mm512_setzero_ps();
    for (int64_t i = 0; i < from.rows; ++i) {
      at::BFloat16* place = y + i * y_row + first;
      const __m512 c = _mm512_cvtepi32_ps(_mm512_loadu_si512(from.c + i * kBlockEdge + first));
      const __m512i held = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, place));
      const __m512 old = from.start ? start : _mm512_castsi512_ps(_mm512_slli_epi32(held, 16));
      const __m512 sum = _mm512_fmadd_ps(_mm512_mul_ps(c, s), _mm512_set1_ps(from.t[i]), old);
      _mm256_mask_storeu_epi16(place, there, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sum)));
    }
  }
}
#endif

void leave(const Outlet& from, at::BFloat16* y, int64_t y_row) {
#if defined(DELTAW_BF16_UNITS)
  if (has_bf16_units()) return leave_in_units(from, y, y_row);
#endif
  leave_by_bits(from, y, y_row);
}

// 128 times the sum of a row, which stands in each of its sums.
DELTAW_VECTORISED
void take_offset_off(int32_t* c, const int32_t* row_sums) {
  for (int64_t i = 0; i < kBlockEdge; ++i) {
    for (int64_t j = 0; j < kBlockEdge; ++j) c[i * kBlockEdge + j] -= 128 * row_sums[i];
  }
}

// The right side of a product: tiles as they are held, or their transpose.
struct RightSide {
  RightTiles tiles;
  const RightTiles* turned_from = nullptr;

  static RightSide of_transpose(const RightTiles& held) { return {{nullptr, held.columns, held.depth}, &held}; }

  int64_t per_part() const { return part_blocks(tiles.block_codes()); }
};

// What a thread reads of it: one part after the other.
class RightPart {
 public:
  RightPart(const Int8Units& units, const RightSide& right) : units_(units), right_(right) {}

  // The first block of a part; stays until another is asked for.
  const int8_t* blocks(int64_t part) {
    const int64_t first = part * right_.per_part(), codes = right_.tiles.block_codes();
    if (!right_.turned_from) return right_.tiles.data + first * codes;
    if (part == part_) return turned_.data();
    const int64_t last = std::min(first + right_.per_part(), right_.tiles.blocks());
    turned_.resize(static_cast<size_t>(right_.per_part() * codes));
    for (int64_t i = first; i < last; ++i) {
      turn_block(units_, *right_.turned_from, i, turned_.data() + (i - first) * codes);
    }
    part_ = part;
    return turned_.data();
  }

 private:
  const Int8Units& units_;
  const RightSide& right_;
  int64_t part_ = -1;
  AlignedVector<int8_t> turned_;
};

// Numbers for each column, up to the end of the last block.
Tensor by_columns(const Tensor& numbers, int64_t columns, float otherwise, const Tensor& like) {
  Tensor result = at::full({parts_of(columns, kBlockEdge) * kBlockEdge}, otherwise, like.options().dtype(at::kFloat));
  if (numbers.defined()) result.narrow(0, 0, columns).copy_(numbers);
  return result;
}

// Has the lines of y that a block is about to add to on their way.
template <class Scalar>
void expect_block(const Scalar* y, int64_t y_row, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) __builtin_prefetch(y + i * y_row, 1, 2);
}

// y <- diag(t) (X right) diag(s) + start.
template <class Scalar>
void multiply(const Int8Units& units, const Int8Rows& x, const RightSide& right, const float* s, const float* start,
              Tensor& y) {
  auto* to = y.mutable_data_ptr<Scalar>();
  const int64_t y_row = y.stride(0), depth_tiles = right.tiles.depth_tiles(), columns = right.tiles.columns;
  const int64_t row_blocks = parts_of(x.rows(), kBlockEdge), column_blocks = right.tiles.blocks();
  const int64_t per_part = right.per_part(), strips = parts_of(row_blocks, kStripBlocks);
  // A thread has the strips of one part behind each other.
  at::parallel_for(0, parts_of(column_blocks, per_part) * strips, 1, [&](int64_t first, int64_t last) {
    alignas(64) int32_t c[kBlockEdge * kBlockEdge];
    RightPart held(units, right);
    units.begin();
    for (int64_t task = first; task < last; ++task) {
      const int64_t part = task / strips, strip = task % strips * kStripBlocks;
      const int8_t* blocks = held.blocks(part);
      for (int64_t i = strip; i < std::min(strip + kStripBlocks, row_blocks); ++i) {
        for (int64_t j = part * per_part; j < std::min((part + 1) * per_part, column_blocks); ++j) {
          const int64_t row = i * kBlockEdge, column = j * kBlockEdge;
          const int64_t rows = std::min(kBlockEdge, x.rows() - row);
          expect_block(to + row * y_row + column, y_row, rows);
          units.multiply(x.codes() + i * 2 * depth_tiles * kTileCodes,
                         blocks + (j - part * per_part) * right.tiles.block_codes(), depth_tiles, c);
          if (units.offset) take_offset_off(c, x.sums() + row);
          const Outlet sums{.c = c,
                            .t = x.scales() + row,
                            .s = s + column,
                            .start = start ? start + column : nullptr,
                            .rows = rows,
                            .columns = std::min(kBlockEdge, columns - column)};
          leave(sums, to + row * y_row + column, y_row);
        }
      }
    }
    units.end();
  });
}

// The same for a y of any type; `start` is undefined where y holds it.
void multiply(const Int8Units& units, const Int8Rows& x, const RightSide& right, const Tensor& scales,
              const Tensor& start, Tensor& y) {
  if (x.rows() == 0) return;
  const Tensor s = by_columns(scales, right.tiles.columns, 1, y);
  const float* from = start.defined() ? start.const_data_ptr<float>() : nullptr;
  const auto* by = s.const_data_ptr<float>();
  if (has_kernels(y) && y.stride(1) == 1) {
    y.scalar_type() == at::kFloat ? multiply<float>(units, x, right, by, from, y)
                                  : multiply<at::BFloat16>(units, x, right, by, from, y);
    return;
  }
  Tensor product = at::empty(y.sizes(), s.options());
  const Tensor zeros = by_columns({}, right.tiles.columns, 0, y);
  multiply<float>(units, x, right, by, from ? from : zeros.const_data_ptr<float>(), product);
  from ? y.copy_(product) : y.add_(product);
}

}  // namespace

Tensor int8_product(const Int8Rows& x, const Int8Weight& weight, const Tensor& bias, at::ScalarType type,
                    const Int8Units& units) {
  Tensor y = at::empty({x.rows(), weight.d_out()}, weight.scales().options().dtype(type));
  multiply(units, x, {weight.tiles()}, weight.scales(), by_columns(bias, weight.d_out(), 0, weight.scales()), y);
  return y;
}

void add_int8_product(Tensor& y, const Int8Rows& x, const Int8Weight& weight, const Int8Units& units) {
  multiply(units, x, {weight.tiles()}, weight.scales(), Tensor(), y);
}

void add_int8_gradient(Tensor& dx, const Tensor& dy, const Int8Weight& weight, const Int8Units& units) {
  const Tensor start = dx.defined() ? Tensor() : by_columns({}, weight.d_in(), 0, weight.scales());
  if (!dx.defined()) dx = at::empty({dy.size(0), weight.d_in()}, dy.options());
  const RightTiles held = weight.tiles();
  multiply(units, Int8Rows(dy, weight.scales()), RightSide::of_transpose(held), Tensor(), start, dx);
}

int64_t bytes_at_hand(const Int8Weight& weight) {
  const RightTiles held = weight.tiles();
  const RightSide turned = RightSide::of_transpose(held);
  return std::min(turned.tiles.blocks(), at::get_num_threads() * turned.per_part()) * turned.tiles.block_codes();
}

}  // namespace deltaw::ops

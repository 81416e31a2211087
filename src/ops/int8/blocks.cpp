#include "ops/int8/blocks.h"

#include <ATen/cpu/Utils.h>

#include <algorithm>
#include <cstring>

#include "core/vectorised.h"
#include "ops/amx.h"
#if defined(DELTAW_AMX)
#define DELTAW_INT8_UNITS
// Of what the header's own functions leave undefined.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace deltaw::ops {
namespace {

void nothing() {}

// Any processor.

// What stands at (depth, column) of a right tile.
constexpr int64_t place_in_tile(int64_t depth, int64_t column) {
  return depth / kFour * kFour * kTileEdge + column * kFour + depth % kFour;
}

void turn_plain(const int8_t* squares, int64_t stride, int64_t count, int8_t* to) {
  std::fill_n(to, kTileCodes, int8_t{0});
  for (int64_t square = 0; square < count; ++square) {
    for (int64_t k = 0; k < kTileEdge; ++k) {
      for (int64_t j = 0; j < kTileEdge; ++j) {
        to[square * kSquareCodes + place_in_tile(j, k)] = squares[square * stride + place_in_tile(k, j)];
      }
    }
  }
}

// c [16, 16] += the product of two tiles.
DELTAW_VECTORISED
void add_tiles(const int8_t* __restrict left, const int8_t* __restrict right, int32_t* __restrict c, int64_t c_row) {
  int16_t along[kTileDepth][kTileEdge];
  for (int64_t k = 0; k < kTileDepth; ++k) {
    for (int64_t j = 0; j < kTileEdge; ++j) along[k][j] = right[place_in_tile(k, j)];
  }
  for (int64_t i = 0; i < kTileEdge; ++i) {
    int32_t sum[kTileEdge];
    for (int64_t j = 0; j < kTileEdge; ++j) sum[j] = c[i * c_row + j];
    for (int64_t k = 0; k < kTileDepth; ++k) {
      const int16_t factor = left[i * kTileDepth + k];
      for (int64_t j = 0; j < kTileEdge; ++j) sum[j] += factor * along[k][j];
    }
    for (int64_t j = 0; j < kTileEdge; ++j) c[i * c_row + j] = sum[j];
  }
}

void multiply_plain(const int8_t* left, const int8_t* right, int64_t depth_tiles, int32_t* c) {
  std::fill_n(c, kBlockEdge * kBlockEdge, 0);
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      for (int64_t k = 0; k < depth_tiles; ++k) {
        add_tiles(left + (i * depth_tiles + k) * kTileCodes, right + (j * depth_tiles + k) * kTileCodes,
                  c + (i * kBlockEdge + j) * kTileEdge, kBlockEdge);
      }
    }
  }
}

const Int8Units kPlain = {
    .name = "none",
    .offset = false,
    .multiply = multiply_plain,
    .turn = turn_plain,
    .begin = nothing,
    .end = nothing,
};

#if defined(DELTAW_INT8_UNITS)

#define DELTAW_AVX512 __attribute__((target("avx512f,avx512bw"), optimize("O3")))

// The 128-bit parts of four vectors as a matrix, turned.
DELTAW_AVX512 inline void turn_lanes(const __m512i (&in)[4], __m512i (&out)[4]) {
  const __m512i low01 = _mm512_shuffle_i32x4(in[0], in[1], 0x44), high01 = _mm512_shuffle_i32x4(in[0], in[1], 0xEE);
  const __m512i low23 = _mm512_shuffle_i32x4(in[2], in[3], 0x44), high23 = _mm512_shuffle_i32x4(in[2], in[3], 0xEE);
  out[0] = _mm512_shuffle_i32x4(low01, low23, 0x88);
  out[1] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
  out[2] = _mm512_shuffle_i32x4(high01, high23, 0x88);
  out[3] = _mm512_shuffle_i32x4(high01, high23, 0xDD);
}

// Fours are turned within the 128-bit parts of four by four, and these among each other.
DELTAW_AVX512 void turn_wide(const int8_t* squares, int64_t stride, int64_t count, int8_t* to) {
  const __m512i fours = _mm512_set4_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400);
  for (int64_t square = 0; square < count; ++square, squares += stride, to += kSquareCodes) {
    __m512i in[4], out[4];
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) in[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(squares + i * 64), fours);
    turn_lanes(in, out);
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) _mm512_storeu_si512(to + i * 64, out[i]);
  }
  std::fill_n(to, (kTileDepth / kTileEdge - count) * kSquareCodes, int8_t{0});
}

__attribute__((target("avx512f,avx512bw,avx512vnni"), optimize("O3"))) void multiply_vnni(const int8_t* left,
                                                                                          const int8_t* right,
                                                                                          int64_t depth_tiles,
                                                                                          int32_t* c) {
  constexpr int kRows = 8;
  const __m512i offset = _mm512_set1_epi8(-128);
  for (int64_t i = 0; i < kBlockEdge; i += kRows) {
    const int8_t* a = left + i / kTileEdge * depth_tiles * kTileCodes + i % kTileEdge * kTileDepth;
    __m512i sum[kRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < depth_tiles; ++k) {
      for (int64_t four = 0; four < kTileDepth / 4; ++four) {
        const int8_t* b = right + k * kTileCodes + four * 64;
        const __m512i b0 = _mm512_xor_si512(_mm512_loadu_si512(b), offset);
        const __m512i b1 = _mm512_xor_si512(_mm512_loadu_si512(b + depth_tiles * kTileCodes), offset);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          int32_t codes;
          std::memcpy(&codes, a + k * kTileCodes + r * kTileDepth + four * 4, sizeof(codes));
          const __m512i own = _mm512_set1_epi32(codes);
          sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], b0, own);
          sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], b1, own);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      _mm512_storeu_si512(c + (i + r) * kBlockEdge, sum[r][0]);
      _mm512_storeu_si512(c + (i + r) * kBlockEdge + kTileEdge, sum[r][1]);
    }
  }
}

DELTAW_AMX void multiply_amx(const int8_t* left, const int8_t* right, int64_t depth_tiles, int32_t* c) {
  constexpr int64_t kRow = kTileDepth, kSumRow = kBlockEdge * sizeof(int32_t);
  const int64_t second = depth_tiles * kTileCodes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth_tiles; ++k) {
    const int8_t *a = left + k * kTileCodes, *b = right + k * kTileCodes;
    _tile_loadd(4, a, kRow);
    _tile_loadd(6, b, kRow);
    _tile_loadd(7, b + second, kRow);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_loadd(5, a + second, kRow);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, c, kSumRow);
  _tile_stored(1, c + kTileEdge, kSumRow);
  _tile_stored(2, c + kTileEdge * kBlockEdge, kSumRow);
  _tile_stored(3, c + kTileEdge * kBlockEdge + kTileEdge, kSumRow);
}

#endif

std::vector<Int8Units> units_of_processor() {
  std::vector<Int8Units> found;
#if defined(DELTAW_INT8_UNITS)
  if (__builtin_cpu_supports("avx512bw")) {
    // The system gives the tiles' registers to a process that asks for them.
    if (__builtin_cpu_supports("amx-int8") && at::cpu::init_amx()) {
      found.push_back({"amx", false, multiply_amx, turn_wide, begin_amx, end_amx});
    }
    if (__builtin_cpu_supports("avx512vnni")) {
      found.push_back({"vnni", true, multiply_vnni, turn_wide, nothing, nothing});
    }
  }
#endif
  found.push_back(kPlain);
  return found;
}

}  // namespace

const std::vector<Int8Units>& int8_units() {
  static const std::vector<Int8Units> units = units_of_processor();
  return units;
}

void turn_block(const Int8Units& units, const RightTiles& from, int64_t block, int8_t* to) {
  constexpr int64_t kSquares = kTileDepth / kTileEdge;
  const int64_t row = from.depth_tiles() * kTileCodes, rows = from.blocks() * 2;  // of tiles
  for (int64_t edge = 2 * block; edge < 2 * (block + 1); ++edge) {
    const int8_t* squares = from.data + edge * kSquareCodes;
    for (int64_t i = 0; i < rows; i += kSquares, to += kTileCodes) {
      units.turn(squares + i * row, row, std::min(kSquares, rows - i), to);
    }
  }
}

}  // namespace deltaw::ops

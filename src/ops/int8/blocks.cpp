#include "ops/int8/blocks.h"

#include <ATen/cpu/Utils.h>

#include <algorithm>
#include <array>
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
  return depth / 4 * 4 * kTileEdge + column * 4 + depth % 4;
}

void pack_plain(const Codes& codes, bool transposed, int64_t block, int8_t* to) {
  const int64_t depth = transposed ? codes.columns : codes.rows, columns = transposed ? codes.rows : codes.columns;
  const int64_t depth_tiles = parts_of(depth, kTileDepth), first = block * kBlockEdge;
  std::fill_n(to, 2 * depth_tiles * kTileCodes, int8_t{0});
  for (int64_t j = first; j < std::min(first + kBlockEdge, columns); ++j) {
    int8_t* tiles = to + (j - first) / kTileEdge * depth_tiles * kTileCodes;
    for (int64_t k = 0; k < depth; ++k) {
      tiles[k / kTileDepth * kTileCodes + place_in_tile(k % kTileDepth, j % kTileEdge)] =
          transposed ? codes.data[j * codes.columns + k] : codes.data[k * codes.columns + j];
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
    .offset_right = false,
    .multiply = multiply_plain,
    .pack_transposed = [](const Codes& codes, int64_t block, int8_t* to) { pack_plain(codes, true, block, to); },
    .pack = [](const Codes& codes, int64_t block, int8_t* to) { pack_plain(codes, false, block, to); },
    .begin = nothing,
    .end = nothing,
};

#if defined(DELTAW_INT8_UNITS)

#define DELTAW_AVX512 __attribute__((target("avx512f,avx512bw"), optimize("O3")))

DELTAW_AVX512 inline __mmask64 first_codes(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : count <= 0 ? __mmask64{0} : (__mmask64{1} << count) - 1;
}

// The 128-bit parts of four vectors as a matrix, turned.
DELTAW_AVX512 inline void turn_lanes(const __m512i (&in)[4], __m512i (&out)[4]) {
  const __m512i low01 = _mm512_shuffle_i32x4(in[0], in[1], 0x44), high01 = _mm512_shuffle_i32x4(in[0], in[1], 0xEE);
  const __m512i low23 = _mm512_shuffle_i32x4(in[2], in[3], 0x44), high23 = _mm512_shuffle_i32x4(in[2], in[3], 0xEE);
  out[0] = _mm512_shuffle_i32x4(low01, low23, 0x88);
  out[1] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
  out[2] = _mm512_shuffle_i32x4(high01, high23, 0x88);
  out[3] = _mm512_shuffle_i32x4(high01, high23, 0xDD);
}

// A tile of the transpose: four codes of a row stay together, so that a matrix of 16 by 16 fours is turned.
template <bool kOffset>
DELTAW_AVX512 void pack_transposed_wide(const Codes& codes, int64_t block, int8_t* to) {
  const __m512i offset = _mm512_set1_epi8(kOffset ? -128 : 0);
  for (int64_t first = block * kBlockEdge; first < (block + 1) * kBlockEdge; first += kTileEdge) {
    for (int64_t k = 0; k < codes.columns; k += kTileDepth, to += kTileCodes) {
      const __mmask64 there = first_codes(codes.columns - k);
      __m512i row[16], pair[16];
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) {
        const int8_t* from = codes.data + std::min(first + i, codes.rows - 1) * codes.columns + k;
        row[i] = _mm512_maskz_loadu_epi8(first + i < codes.rows ? there : 0, from);
      }
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; i += 4) {  // turns the four by four within the 128-bit parts
        const __m512i a = _mm512_unpacklo_epi32(row[i], row[i + 1]), b = _mm512_unpackhi_epi32(row[i], row[i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(row[i + 2], row[i + 3]);
        const __m512i d = _mm512_unpackhi_epi32(row[i + 2], row[i + 3]);
        pair[i] = _mm512_unpacklo_epi64(a, c);
        pair[i + 1] = _mm512_unpackhi_epi64(a, c);
        pair[i + 2] = _mm512_unpacklo_epi64(b, d);
        pair[i + 3] = _mm512_unpackhi_epi64(b, d);
      }
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {  // and these
        const __m512i in[4] = {pair[i], pair[i + 4], pair[i + 8], pair[i + 12]};
        __m512i out[4];
        turn_lanes(in, out);
#pragma GCC unroll 4
        for (int64_t part = 0; part < 4; ++part) {
          _mm512_storeu_si512(to + (4 * part + i) * 64, _mm512_xor_si512(out[part], offset));
        }
      }
    }
  }
}

// Four rows of 64 codes become four rows of four tiles.
template <bool kOffset>
DELTAW_AVX512 void pack_wide(const Codes& codes, int64_t block, int8_t* to) {
  const int64_t depth_tiles = parts_of(codes.rows, kTileDepth), first = block * kBlockEdge;
  const __m512i offset = _mm512_set1_epi8(kOffset ? -128 : 0);
  const __mmask64 there = first_codes(std::min(kBlockEdge, codes.columns - first));
  for (int64_t k = 0; k < depth_tiles * kTileDepth; k += 4) {
    __m512i row[4], parts[4], out[4];
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      const int8_t* from = codes.data + std::min(k + i, codes.rows - 1) * codes.columns + first;
      row[i] = _mm512_maskz_loadu_epi8(k + i < codes.rows ? there : 0, from);
    }
    const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]), high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]), high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    parts[0] = _mm512_unpacklo_epi16(low01, low23);
    parts[1] = _mm512_unpackhi_epi16(low01, low23);
    parts[2] = _mm512_unpacklo_epi16(high01, high23);
    parts[3] = _mm512_unpackhi_epi16(high01, high23);
    turn_lanes(parts, out);
    int8_t* place = to + k / kTileDepth * kTileCodes + k % kTileDepth * kTileEdge;
    _mm512_storeu_si512(place, _mm512_xor_si512(out[0], offset));
    _mm512_storeu_si512(place + depth_tiles * kTileCodes, _mm512_xor_si512(out[1], offset));
  }
}

__attribute__((target("avx512f,avx512bw,avx512vnni"), optimize("O3"))) void multiply_vnni(const int8_t* left,
                                                                                          const int8_t* right,
                                                                                          int64_t depth_tiles,
                                                                                          int32_t* c) {
  constexpr int kRows = 8;
  for (int64_t i = 0; i < kBlockEdge; i += kRows) {
    const int8_t* a = left + i / kTileEdge * depth_tiles * kTileCodes + i % kTileEdge * kTileDepth;
    __m512i sum[kRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < depth_tiles; ++k) {
      for (int64_t four = 0; four < kTileDepth / 4; ++four) {
        const int8_t* b = right + k * kTileCodes + four * 64;
        const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + depth_tiles * kTileCodes);
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
      found.push_back({"amx", false, multiply_amx, pack_transposed_wide<false>, pack_wide<false>, begin_amx, end_amx});
    }
    if (__builtin_cpu_supports("avx512vnni")) {
      found.push_back({"vnni", true, multiply_vnni, pack_transposed_wide<true>, pack_wide<true>, nothing, nothing});
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

}  // namespace deltaw::ops

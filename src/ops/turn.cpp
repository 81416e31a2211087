#include "ops/turn.h"

#include <algorithm>

#if defined(DELTAW_BF16_UNITS)
#include <immintrin.h>
#endif

namespace deltaw::ops {
namespace {

constexpr int64_t kEdge = 16;

void turn_part(const Bits* from, int64_t from_row, int64_t rows, int64_t columns, Bits* to, int64_t to_row) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
  }
}

#if defined(DELTAW_BF16_UNITS)
// The even or the odd lanes of 128 bits, of `first` and then of `second`.
template <int kOdd>
DELTAW_BF16_UNITS inline __m512i lanes(__m512i first, __m512i second) {
  return _mm512_maskz_shuffle_i32x4(0xFFFF, first, second, kOdd ? 0xDD : 0x88);  // gcc 12 warns of the unmasked one
}

// to[i][k] = from[k][i], of 16 by 16.
DELTAW_BF16_UNITS
void turn_16(const Bits* from, int64_t from_row, Bits* to, int64_t to_row) {
  __m512i x[16], y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_si512(from + i * from_row);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_maskz_unpacklo_epi32(0xFFFF, x[i], x[i + 1]);
    y[i + 1] = _mm512_maskz_unpackhi_epi32(0xFFFF, x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_maskz_unpacklo_epi64(0xFF, y[i], y[i + 2]);
    x[i + 1] = _mm512_maskz_unpackhi_epi64(0xFF, y[i], y[i + 2]);
    x[i + 2] = _mm512_maskz_unpacklo_epi64(0xFF, y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_maskz_unpackhi_epi64(0xFF, y[i + 1], y[i + 3]);
  }
  // x[4 i + n] has columns n, 4 + n, 8 + n and 12 + n of rows 4 i to 4 i + 3, a lane each.
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    const __m512i even = lanes<0>(x[n], x[4 + n]), even2 = lanes<0>(x[8 + n], x[12 + n]);
    const __m512i odd = lanes<1>(x[n], x[4 + n]), odd2 = lanes<1>(x[8 + n], x[12 + n]);
    y[n] = lanes<0>(even, even2);
    y[4 + n] = lanes<0>(odd, odd2);
    y[8 + n] = lanes<1>(even, even2);
    y[12 + n] = lanes<1>(odd, odd2);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * to_row, y[i]);
}

#endif

}  // namespace

void turn(const Bits* from, int64_t from_row, int64_t rows, int64_t columns, Bits* to, int64_t to_row) {
  for (int64_t i = 0; i < rows; i += kEdge) {
    for (int64_t j = 0; j < columns; j += kEdge) {
      const Bits* part = from + i * from_row + j;
      Bits* turned = to + j * to_row + i;
#if defined(DELTAW_BF16_UNITS)
      if (rows - i >= kEdge && columns - j >= kEdge && has_bf16_units()) {
        turn_16(part, from_row, turned, to_row);
        continue;
      }
#endif
      turn_part(part, from_row, std::min(kEdge, rows - i), std::min(kEdge, columns - j), turned, to_row);
    }
  }
}

}  // namespace deltaw::ops

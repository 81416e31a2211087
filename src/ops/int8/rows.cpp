#include "ops/int8/rows.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <vector>

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

constexpr float kSmallestMagnitude = 1e-30F;  // keeps its reciprocal finite
constexpr float kRounder = 12582912.0F;       // 1.5 * 2^23: adding it leaves a whole number in the low bits

DELTAW_VECTORISED
void multiply_codes_input(const float* __restrict x, const float* __restrict factors, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = x[i] * factors[i];
}

// By their bits, of which those of infinity and NaN are above all others.
DELTAW_VECTORISED
float largest_magnitude_of(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  return std::bit_cast<float>(largest);
}

// 64 codes, zeros behind the first n; returns their sum.
DELTAW_VECTORISED
int32_t write_codes(const float* __restrict x, int64_t n, float inverse, int8_t* __restrict to, int64_t stride) {
  int32_t sum = 0;
  const auto write = [&](int64_t i, int64_t count) DELTAW_INLINE {
    int8_t* tile = to + i / kTileDepth * stride;
    for (int64_t j = 0; j < count; ++j) {
      tile[j] = static_cast<int8_t>(std::bit_cast<uint32_t>(x[i + j] * inverse + kRounder));
      sum += tile[j];
    }
    for (int64_t j = count; j < kTileDepth; ++j) tile[j] = 0;
  };
  int64_t i = 0;
  for (; i + kTileDepth <= n; i += kTileDepth) write(i, kTileDepth);
  if (i < n) write(i, n - i);
  return sum;
}

// What becomes of a row by its largest magnitude: NaN as its scale, and no codes, where that is not finite.
struct RowScale {
  explicit RowScale(float largest) {
    if (!(largest <= std::numeric_limits<float>::max())) return;
    scale = std::max(largest, kSmallestMagnitude) / 127;
    inverse = 127 / std::max(largest, kSmallestMagnitude);
  }
  float scale = std::numeric_limits<float>::quiet_NaN(), inverse = 0;
};

#if defined(DELTAW_BF16_UNITS)

DELTAW_BF16_UNITS inline __m512 sixteen(const float* x, __mmask16 there) {
  return _mm512_maskz_loadu_ps(there, x);
}

DELTAW_BF16_UNITS inline __m512 sixteen(const at::BFloat16* x, __mmask16 there) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, x)), 16));
}

// Numbers i to i + 15 of a row, zeros behind the last.
template <class Scalar>
DELTAW_BF16_UNITS inline __m512 sixteen_of(const Scalar* x, const float* factors, int64_t i, int64_t n) {
  const auto there = static_cast<__mmask16>(n - i >= 16 ? 0xFFFF : n <= i ? 0 : (1 << (n - i)) - 1);
  const __m512 own = sixteen(x + i, there);
  return factors ? _mm512_mul_ps(own, _mm512_maskz_loadu_ps(there, factors + i)) : own;
}

// Writes a row's codes and gives its scale; `sum` is that of the codes. The same as from a row of floats below.
template <class Scalar>
DELTAW_BF16_UNITS float write_row_in_units(const Scalar* x, const float* factors, int64_t n, int8_t* to, int32_t& sum) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += 16) {
    const __m512i bits = _mm512_castps_si512(sixteen_of(x, factors, i, n));
    largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, magnitude));
  }
  std::array<uint32_t, 16> lanes;
  _mm512_storeu_si512(lanes.data(), largest);
  const RowScale row(std::bit_cast<float>(*std::max_element(lanes.begin(), lanes.end())));
  const __m512 inverse = _mm512_set1_ps(row.inverse), rounder = _mm512_set1_ps(kRounder);
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i sums = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += kTileDepth, to += kTileCodes) {
    __m512i codes[4];
#pragma GCC unroll 4
    for (int64_t part = 0; part < 4; ++part) {
      const __m512 shifted = _mm512_fmadd_ps(sixteen_of(x, factors, i + 16 * part, n), inverse, rounder);
      codes[part] = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(rounder));
      sums = _mm512_add_epi32(sums, codes[part]);
    }
    const __m512i low = _mm512_packs_epi32(codes[0], codes[1]), high = _mm512_packs_epi32(codes[2], codes[3]);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(in_order, _mm512_packs_epi16(low, high)));
  }
  sum = row.inverse == 0 ? 0 : _mm512_reduce_add_epi32(sums);
  return row.scale;
}

#endif

template <class Scalar>
void quantise(const Tensor& x, const float* factors, int8_t* codes, float* scales, int32_t* sums) {
  const int64_t width = x.size(1), row_of_tiles = parts_of(width, kTileDepth) * kTileCodes;
  const Rows<Scalar> rows(x);
  RowTasks(x.size(0), width).run([&](int64_t, int64_t begin, int64_t end) {
    std::vector<float> buffer(static_cast<size_t>(width));
    for (int64_t i = begin; i < end; ++i) {
      int8_t* to = codes + i / kTileEdge * row_of_tiles + i % kTileEdge * kTileDepth;
#if defined(DELTAW_BF16_UNITS)
      if (has_bf16_units()) {
        scales[i] = write_row_in_units(rows.first + i * rows.stride, factors, width, to, sums[i]);
        continue;
      }
#endif
      const float* row = rows.part(i, 0, width, buffer.data());
      if (factors) {
        multiply_codes_input(row, factors, buffer.data(), width);
        row = buffer.data();
      }
      const RowScale scale(largest_magnitude_of(row, width));
      scales[i] = scale.scale;
      sums[i] = write_codes(row, width, scale.inverse, to, kTileCodes);
    }
  });
}

}  // namespace

Int8Rows::Int8Rows(const Tensor& x, const Tensor& factors) : rows_(x.size(0)), width_(x.size(1)) {
  const at::NoGradGuard no_grad;
  const int64_t padded = parts_of(rows_, kBlockEdge) * kBlockEdge;
  const int64_t row_of_tiles = parts_of(width_, kTileDepth) * kTileCodes;
  codes_ = at::empty({padded / kTileEdge * row_of_tiles}, x.options().dtype(at::kChar));
  scales_ = at::zeros({padded}, x.options().dtype(at::kFloat));
  sums_ = at::zeros({padded}, x.options().dtype(at::kInt));
  auto* codes = codes_.mutable_data_ptr<int8_t>();
  for (int64_t i = rows_; i < padded; ++i) {
    for (int64_t k = 0; k < row_of_tiles; k += kTileCodes) {
      std::fill_n(codes + i / kTileEdge * row_of_tiles + k + i % kTileEdge * kTileDepth, kTileDepth, int8_t{0});
    }
  }
  if (rows_ == 0) return;
  const Tensor numbers = as_rows(has_kernels(x) ? x : x.to(at::kFloat));
  const Tensor own = factors.defined() ? factors.to(at::kFloat).contiguous() : factors;
  const float* by = own.defined() ? own.const_data_ptr<float>() : nullptr;
  auto* scales = scales_.mutable_data_ptr<float>();
  auto* sums = sums_.mutable_data_ptr<int32_t>();
  if (numbers.scalar_type() == at::kFloat) {
    quantise<float>(numbers, by, codes, scales, sums);
  } else {
    quantise<at::BFloat16>(numbers, by, codes, scales, sums);
  }
}

}  // namespace deltaw::ops

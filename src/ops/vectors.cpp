#include "ops/vectors.h"

#if defined(DELTAW_BF16_UNITS)
#include <immintrin.h>
#endif

namespace deltaw::ops {
namespace {

#if defined(DELTAW_BF16_UNITS)
DELTAW_BF16_UNITS
void narrow_in_units(const float* from, at::BFloat16* to, int64_t n) {
  constexpr int64_t kLanes = 16;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256bh nearest = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), reinterpret_cast<__m256i>(nearest));
  }
  if (i == n) return;
  const auto mask = static_cast<__mmask16>((1 << (n - i)) - 1);
  const __m256bh nearest = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i));
  _mm256_mask_storeu_epi16(to + i, mask, reinterpret_cast<__m256i>(nearest));
}
#endif

DELTAW_VECTORISED
void narrow_by_bits(const float* __restrict from, at::BFloat16* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint32_t>(from[i]);
    const uint32_t nearest = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    to[i].x = static_cast<uint16_t>(from[i] != from[i] ? 0x7FC0u : nearest);
  }
}

inline bool multiplies_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace

bool has_bf16_units() {
  return multiplies_bf16();
}

DELTAW_VECTORISED
void widen(const at::BFloat16* __restrict from, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = std::bit_cast<float>(static_cast<uint32_t>(from[i].x) << 16);
}

void narrow(const float* from, at::BFloat16* to, int64_t n) {
#if defined(DELTAW_BF16_UNITS)
  if (multiplies_bf16()) return narrow_in_units(from, to, n);
#endif
  narrow_by_bits(from, to, n);
}

}  // namespace deltaw::ops

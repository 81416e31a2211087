// Numbers of 16 bits.
#pragma once

#include <bit>
#include <cstdint>

#include "core/vectorised.h"

namespace deltaw::io {

/// A number of IEEE's half type as float32, exactly. Without denormal operands, which the processor may take for zero.
DELTAW_INLINE inline float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t rest = static_cast<uint32_t>(half & 0x7FFFu) << 13;
  const uint32_t exponent = rest & 0x0F800000u;
  // The exponent's bias is 127 instead of 15; that of infinity and NaN is twice as far away.
  const uint32_t normal = rest + (112u << 23) + (exponent == 0x0F800000u ? 112u << 23 : 0u);
  // A subnormal half is a normal number less its leading one.
  const float small = std::bit_cast<float>(rest + (113u << 23)) - std::bit_cast<float>(113u << 23);
  return std::bit_cast<float>((exponent == 0 ? std::bit_cast<uint32_t>(small) : normal) | sign);
}

/// The nearest half, of two the even one; beyond 65519 infinity.
DELTAW_INLINE inline uint16_t to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u, size = bits & 0x7FFFFFFFu;
  uint32_t half = 0;
  if (size >= 0x47800000u) {  // 65536 and more
    half = size > 0x7F800000u ? 0x7E00u : 0x7C00u;
  } else if (size < 0x38800000u) {  // below the least normal half: adding 0.5 leaves its bits in the last places
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  } else {
    half = (size - (112u << 23) + 0xFFFu + (size >> 13 & 1u)) >> 13;
  }
  return static_cast<uint16_t>(half | sign);
}

DELTAW_INLINE inline float from_bfloat16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

/// The nearest number of the type, of two the even one; NaN stays NaN.
DELTAW_INLINE inline uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  const uint32_t rounded = nan ? bits | 0x00400000u : bits + 0x7FFFu + (bits >> 16 & 1u);
  return static_cast<uint16_t>(rounded >> 16);
}

}  // namespace deltaw::io

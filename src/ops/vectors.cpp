#include "ops/vectors.h"

namespace deltaw::ops {

DELTAW_VECTORISED
void widen(const at::BFloat16* __restrict from, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = std::bit_cast<float>(static_cast<uint32_t>(from[i].x) << 16);
}

DELTAW_VECTORISED
void narrow(const float* __restrict from, at::BFloat16* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint32_t>(from[i]);
    const uint32_t nearest = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    to[i].x = static_cast<uint16_t>(from[i] != from[i] ? 0x7FC0u : nearest);
  }
}

}  // namespace deltaw::ops

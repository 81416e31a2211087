// Seeds and keys made of several numbers.
#pragma once

#include <cstdint>

namespace deltaw {

/// A well-mixed number of both, so that neighbouring seeds, epochs and steps share no stream (SplitMix64's finaliser).
constexpr uint64_t mix_seed(uint64_t seed, uint64_t stream) {
  uint64_t mixed = seed + (stream + 1) * 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return mixed ^ (mixed >> 31);
}

}  // namespace deltaw

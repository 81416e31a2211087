// The registers of AMX, each a tile of 16 rows of 64 bytes. Products here use four for sums, two for the left matrix
// and two for the right one.
#pragma once

#include <array>
#include <cstdint>

#if defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>
/// Before a function that begin_amx() and end_amx() stand around.
#define DELTAW_AMX \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-int8,amx-bf16"), optimize("O3")))

namespace deltaw::ops {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  std::array<uint8_t, 14> reserved = {};
  std::array<uint16_t, 16> bytes = {64, 64, 64, 64, 64, 64, 64, 64};
  std::array<uint8_t, 16> rows = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// The thread's registers, until end_amx(). The process must have asked for them (at::cpu::init_amx).
DELTAW_AMX inline void begin_amx() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}

DELTAW_AMX inline void end_amx() {
  _tile_release();
}

}  // namespace deltaw::ops
#endif

// Numbers out of bytes whose length was checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "io/column_error.h"

namespace deltaw::io {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

/// The number at the front; there must be as many bytes.
template <class Number>
Number load(std::string_view bytes) {
  if (bytes.size() < sizeof(Number)) throw ColumnError("a number is cut short");
  Number value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// Seven bits a byte, the low ones first; leaves in `bytes` what follows.
inline uint64_t read_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (bytes.empty()) throw ColumnError("a number is cut short");
    const auto byte = static_cast<uint8_t>(bytes[0]);
    bytes.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 127) << shift;
    if (byte < 128) return value;
  }
  throw ColumnError("a number has too many bytes");
}

inline int64_t from_zigzag(uint64_t value) {
  return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

/// `width` bits (64 at most) from bit `at` on; all of them must be there.
inline uint64_t bits_at(std::string_view bytes, uint64_t at, int width) {
  uint64_t value = 0;
  for (int got = 0; got < width;) {
    const auto byte = static_cast<uint8_t>(bytes[static_cast<size_t>(at >> 3)]);
    const int skip = static_cast<int>(at & 7), taken = width - got < 8 - skip ? width - got : 8 - skip;
    value |= static_cast<uint64_t>((byte >> skip) & ((1 << taken) - 1)) << got;
    got += taken;
    at += static_cast<uint64_t>(taken);
  }
  return value;
}

}  // namespace deltaw::io

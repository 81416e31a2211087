// FNV-1a, 64 bits: a fingerprint of numbers. Names no content among others; core/hash.h does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace deltaw {

class Fnv {
 public:
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (size_t i = 0; i < size; ++i) value_ = (value_ ^ bytes[i]) * 0x100000001B3u;
  }
  std::string text() const { return fmt::format("{:016x}", value_); }  // 16 hexadecimal digits

 private:
  uint64_t value_ = 0xCBF29CE484222325u;
};

}  // namespace deltaw

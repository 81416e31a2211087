// GGUF files of tests, byte by byte: what no tool would write can be written too.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace deltaw::test {

template <class Number>
std::string raw(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

inline std::string gguf_text(const std::string& text) {
  return raw<uint64_t>(text.size()) + text;
}

/// A key with its value: `type` is the format's number, `value` the bytes.
inline std::string gguf_value(const std::string& key, uint32_t type, const std::string& value) {
  return gguf_text(key) + raw(type) + value;
}

inline std::string gguf_list(uint32_t type, uint64_t count, const std::string& members) {
  return raw(type) + raw(count) + members;
}

inline std::string gguf_tensor(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type,
                               uint64_t offset) {
  std::string bytes = gguf_text(name) + raw(static_cast<uint32_t>(sizes.size()));
  for (const uint64_t size : sizes) bytes += raw(size);
  return bytes + raw(type) + raw(offset);
}

struct GgufBytes {
  std::vector<std::string> values, tensors;
  std::string data;
  std::string magic = "GGUF";
  uint32_t version = 3;
  size_t alignment = 32;

  std::string header() const {
    std::string bytes = magic + raw(version) + raw<uint64_t>(tensors.size()) + raw<uint64_t>(values.size());
    for (const std::string& value : values) bytes += value;
    for (const std::string& tensor : tensors) bytes += tensor;
    return bytes;
  }
  std::string all() const {
    std::string bytes = header();
    if (!tensors.empty()) bytes.append((alignment - bytes.size() % alignment) % alignment, '\0');
    return bytes + data;
  }
};

}  // namespace deltaw::test

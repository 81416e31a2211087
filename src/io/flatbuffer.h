// Flatbuffers, in which Arrow writes what it says of itself. Every offset is checked when it is followed.
// Source: https://flatbuffers.dev/internals/
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "io/column_error.h"
#include "io/little_endian.h"

namespace deltaw::io {

class FlatVector;

class FlatTable {
 public:
  FlatTable() = default;
  /// The root of a buffer.
  static FlatTable root(std::string_view buffer) { return {buffer, follow(buffer, 0)}; }
  FlatTable(std::string_view buffer, uint64_t at) : buffer_(buffer), at_(at) {
    const int64_t vtable = static_cast<int64_t>(at) - number<int32_t>(buffer, at);
    if (vtable < 0) throw ColumnError(kOutside);
    vtable_ = static_cast<uint64_t>(vtable);
    vtable_size_ = number<uint16_t>(buffer, vtable_);
  }

  /// `field` counts from 0 as in the schema; a field that is not written has its default.
  template <class Number>
  Number get(int field, Number otherwise) const {
    const uint64_t place = place_of(field);
    return place == 0 ? otherwise : number<Number>(buffer_, place);
  }
  uint64_t buffer_size() const { return buffer_.size(); }
  std::optional<FlatTable> table(int field) const {
    const uint64_t place = place_of(field);
    if (place == 0) return std::nullopt;
    return FlatTable(buffer_, follow(buffer_, place));
  }
  std::string_view text(int field) const {
    const uint64_t place = place_of(field);
    if (place == 0) return {};
    const uint64_t at = follow(buffer_, place);
    return part(buffer_, at + 4, number<uint32_t>(buffer_, at));
  }
  FlatVector vector(int field, uint64_t item_size) const;

  static constexpr const char* kOutside = "its description points outside of itself";

  template <class Number>
  static Number number(std::string_view buffer, uint64_t at) {
    return load<Number>(part(buffer, at, sizeof(Number)));
  }
  static std::string_view part(std::string_view buffer, uint64_t at, uint64_t size) {
    if (at > buffer.size() || size > buffer.size() - at) throw ColumnError(kOutside);
    return buffer.substr(static_cast<size_t>(at), static_cast<size_t>(size));
  }
  static uint64_t follow(std::string_view buffer, uint64_t at) { return at + number<uint32_t>(buffer, at); }

 private:
  /// Where the field stands; 0 where it is not written.
  uint64_t place_of(int field) const {
    const uint64_t slot = 4 + 2 * static_cast<uint64_t>(field);
    if (vtable_size_ < slot + 2) return 0;
    const auto offset = number<uint16_t>(buffer_, vtable_ + slot);
    return offset == 0 ? 0 : at_ + offset;
  }

  std::string_view buffer_;
  uint64_t at_ = 0, vtable_ = 0;
  uint16_t vtable_size_ = 0;
};

/// Items of one size: structs, numbers, or offsets of tables.
class FlatVector {
 public:
  FlatVector() = default;
  FlatVector(std::string_view buffer, uint64_t at, uint64_t item_size)
      : buffer_(buffer), begin_(at + 4), size_(FlatTable::number<uint32_t>(buffer, at)), item_size_(item_size) {
    FlatTable::part(buffer, begin_, size_ * item_size);
  }

  uint64_t size() const { return size_; }
  template <class Number>
  Number number(uint64_t item, uint64_t offset = 0) const {
    return FlatTable::number<Number>(buffer_, begin_ + item * item_size_ + offset);
  }
  FlatTable table(uint64_t item) const { return {buffer_, FlatTable::follow(buffer_, begin_ + item * item_size_)}; }

 private:
  std::string_view buffer_;
  uint64_t begin_ = 0, size_ = 0, item_size_ = 0;
};

inline FlatVector FlatTable::vector(int field, uint64_t item_size) const {
  const uint64_t place = place_of(field);
  return place == 0 ? FlatVector() : FlatVector(buffer_, follow(buffer_, place), item_size);
}

}  // namespace deltaw::io

// Thrift's compact protocol, in which Parquet writes what it says of itself.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace deltaw::io {

/// One value, read whole. Its bytes lie where it was read from.
struct ThriftValue {
  enum class Kind : uint8_t { boolean, integer, real, bytes, list, record };

  Kind kind = Kind::record;
  int16_t id = 0;       // of a record's field
  int64_t integer = 0;  // a boolean's 0 or 1, too
  double real = 0;
  std::string_view bytes = {};
  std::vector<ThriftValue> parts = {};  // items of a list or set, keys and values of a map, fields of a record

  /// The field of that number; nullptr where there is none or its value is of another kind.
  const ThriftValue* find(int16_t field, Kind wanted) const;
  int64_t integer_at(int16_t field, int64_t otherwise) const;  // integers and booleans
  std::string_view bytes_at(int16_t field) const;
  const ThriftValue* record_at(int16_t field) const { return find(field, Kind::record); }
  const std::vector<ThriftValue>& list_at(int16_t field) const;  // empty where there is none
};

/// Reads one record and leaves in `bytes` what follows it. Throws ColumnError for bytes that are none, that end too
/// early, or that are nested deeper than 64 levels.
ThriftValue read_thrift(std::string_view& bytes);

}  // namespace deltaw::io

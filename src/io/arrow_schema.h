// The columns of an Arrow file, as a tree.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/column_values.h"
#include "io/flatbuffer.h"

namespace deltaw::io {

struct ArrowField {
  enum class Kind {
    null,
    integer,
    real,
    boolean,
    text,
    bytes,
    fixed_bytes,
    text_view,
    bytes_view,
    decimal,
    date,
    time,
    timestamp,
    duration,
    interval,
    list,
    fixed_list,
    record,
    map,
    runs,
  };

  std::string name;
  std::string path;  // "messages.item.role"
  Kind kind = Kind::null;
  uint64_t width = 0;     // bytes of a number, of fixed bytes and of offsets; items of a fixed list
  bool is_signed = true;  // of whole numbers
  int64_t scale = 0;      // of decimals
  TimeUnit unit = TimeUnit::seconds;
  bool in_days = false;  // a date
  bool is_utc = false;   // a timestamp that names a time zone
  std::vector<ArrowField> children;
  std::optional<int64_t> dictionary;  // its number: the column holds places in it
  uint64_t place_width = 4;           // of these places
  bool places_signed = true;
};

/// Throws ColumnError for types that are not read.
std::vector<ArrowField> read_arrow_schema(const FlatTable& schema);

}  // namespace deltaw::io

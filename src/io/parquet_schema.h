// The columns of a Parquet file, as a tree.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/column_values.h"
#include "io/parquet_values.h"
#include "io/thrift.h"

namespace deltaw::io {

/// What the values of a column stand for.
struct ParquetType {
  enum class Meaning { plain, text, unsigned_integer, decimal, date, time, timestamp, uuid, half };

  Physical physical = Physical::byte_array;
  size_t length = 0;  // of fixed_bytes
  Meaning meaning = Meaning::plain;
  int64_t scale = 0;  // of decimals
  TimeUnit unit = TimeUnit::microseconds;
  bool is_utc = false;
};

struct ParquetNode {
  enum class Shape { leaf, record, list, map };
  enum class Repetition { required, optional, repeated };

  std::string name;
  std::string path;  // "messages.list.element.role"
  Shape shape = Shape::record;
  Repetition repetition = Repetition::required;
  int definition = 0;          // level at which the node itself is there
  int repeats = 0;             // level of repetition that it and those above it have
  ParquetType type;            // of a leaf
  size_t first = 0, last = 0;  // its columns: [first, last)
  std::vector<ParquetNode> children;
};

/// The root, from the file's description. A list's one child is the repeated node. Throws ColumnError.
ParquetNode read_parquet_schema(const ThriftValue& description);

/// The leaves, in order.
std::vector<const ParquetNode*> leaves_of(const ParquetNode& root);

/// A value of a column as a row holds it. Throws ColumnError for a text that is none.
Json to_json(const ParquetType& type, const RawValue& value);

}  // namespace deltaw::io

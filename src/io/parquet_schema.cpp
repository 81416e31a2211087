#include "io/parquet_schema.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/printable.h"
#include "core/text_file.h"
#include "io/column_error.h"
#include "io/little_endian.h"

namespace deltaw::io {
namespace {

using Meaning = ParquetType::Meaning;
using Shape = ParquetNode::Shape;
using Repetition = ParquetNode::Repetition;

constexpr int kDeepest = 64;

// Fields of a SchemaElement, and of what it holds.
enum Field : int16_t {
  kType = 1,
  kTypeLength = 2,
  kRepetition = 3,
  kName = 4,
  kChildren = 5,
  kConverted = 6,
  kScale = 7,
  kLogical = 10,
};

/// The number of the logical type that the union holds; 0 where there is none.
int16_t logical_of(const ThriftValue& element) {
  const ThriftValue* logical = element.record_at(kLogical);
  return logical == nullptr || logical->parts.empty() ? int16_t{0} : logical->parts.front().id;
}

TimeUnit unit_of(const ThriftValue& type) {
  const ThriftValue* unit = type.record_at(2);
  const int16_t id = unit == nullptr || unit->parts.empty() ? int16_t{2} : unit->parts.front().id;
  return id == 1 ? TimeUnit::milliseconds : id == 3 ? TimeUnit::nanoseconds : TimeUnit::microseconds;
}

void settle_logical(const ThriftValue& element, ParquetType& type) {
  const ThriftValue& logical = element.record_at(kLogical)->parts.front();
  switch (logical.id) {
    case 1:   // STRING
    case 4:   // ENUM
    case 12:  // JSON
      type.meaning = Meaning::text;
      break;
    case 5:  // DECIMAL
      type.meaning = Meaning::decimal;
      type.scale = logical.integer_at(1, element.integer_at(kScale, 0));
      break;
    case 6:
      type.meaning = Meaning::date;
      break;
    case 7:
    case 8:
      type.meaning = logical.id == 7 ? Meaning::time : Meaning::timestamp;
      type.unit = unit_of(logical);
      type.is_utc = logical.integer_at(1, 0) != 0;
      break;
    case 10:  // INTEGER
      if (logical.integer_at(2, 1) == 0) type.meaning = Meaning::unsigned_integer;
      break;
    case 14:
      type.meaning = Meaning::uuid;
      break;
    case 15:
      type.meaning = Meaning::half;
      break;
    default:
      break;
  }
}

void settle_converted(const ThriftValue& element, ParquetType& type) {
  switch (element.integer_at(kConverted, -1)) {
    case 0:   // UTF8
    case 4:   // ENUM
    case 19:  // JSON
      type.meaning = Meaning::text;
      break;
    case 5:
      type.meaning = Meaning::decimal;
      type.scale = element.integer_at(kScale, 0);
      break;
    case 6:
      type.meaning = Meaning::date;
      break;
    case 7:
    case 8:
      type.meaning = Meaning::time;
      type.unit = element.integer_at(kConverted, 0) == 7 ? TimeUnit::milliseconds : TimeUnit::microseconds;
      break;
    case 9:
    case 10:
      type.meaning = Meaning::timestamp;
      type.unit = element.integer_at(kConverted, 0) == 9 ? TimeUnit::milliseconds : TimeUnit::microseconds;
      type.is_utc = true;
      break;
    case 11:
    case 12:
    case 13:
    case 14:  // UINT_8 to UINT_64
      type.meaning = Meaning::unsigned_integer;
      break;
    default:
      break;
  }
}

/// A meaning that such values cannot have is none.
bool fits(const ParquetType& type) {
  const bool integer = type.physical == Physical::int32 || type.physical == Physical::int64;
  const bool bytes = type.physical == Physical::byte_array || type.physical == Physical::fixed_bytes;
  switch (type.meaning) {
    case Meaning::text:
      return bytes;
    case Meaning::decimal:
      return integer || bytes;
    case Meaning::uuid:
      return type.physical == Physical::fixed_bytes && type.length == 16;
    case Meaning::half:
      return type.physical == Physical::fixed_bytes && type.length == 2;
    case Meaning::plain:
      return true;
    default:
      return integer;
  }
}

ParquetType type_of(const ThriftValue& element) {
  ParquetType type;
  const int64_t physical = element.integer_at(kType, -1);
  if (physical < 0 || physical > 7) throw ColumnError(fmt::format("a column has the unknown type {}", physical));
  type.physical = static_cast<Physical>(physical);
  if (type.physical == Physical::fixed_bytes) {
    const int64_t length = element.integer_at(kTypeLength, 0);
    if (length <= 0 || length > INT32_MAX) throw ColumnError(fmt::format("a column has values of {} bytes", length));
    type.length = static_cast<size_t>(length);
  }
  if (logical_of(element) != 0) {
    settle_logical(element, type);
  } else {
    settle_converted(element, type);
  }
  if (!fits(type)) type.meaning = Meaning::plain;
  return type;
}

class SchemaReader {
 public:
  explicit SchemaReader(const std::vector<ThriftValue>& elements) : elements_(elements) {}

  ParquetNode root() {
    ParquetNode root = node(nullptr, 0);
    if (at_ != elements_.size()) throw ColumnError("the tree of its columns does not hold all of them");
    if (root.shape != Shape::record || root.children.empty()) throw ColumnError("it has no columns");
    return root;
  }

 private:
  ParquetNode node(const ParquetNode* parent, int depth) {
    if (depth > kDeepest) throw ColumnError("its columns are nested too deeply");
    if (at_ >= elements_.size()) throw ColumnError("the tree of its columns is cut short");
    const ThriftValue& element = elements_[at_++];
    ParquetNode node;
    const std::string_view name = element.bytes_at(kName);
    node.name = is_utf8(name) ? std::string(name) : printable(name);
    if (parent != nullptr) place_below(*parent, element, node);
    node.first = leaves_;
    const int64_t children = element.integer_at(kChildren, 0);
    if (element.find(kType, ThriftValue::Kind::integer) != nullptr) {
      if (children != 0) throw ColumnError("a column of values has columns of its own");
      node.shape = Shape::leaf;
      node.type = type_of(element);
      ++leaves_;
    } else {
      if (children < 0 || static_cast<uint64_t>(children) > elements_.size() - at_) {
        throw ColumnError("the tree of its columns is cut short");
      }
      for (int64_t i = 0; i < children; ++i) node.children.push_back(this->node(&node, depth + 1));
      settle_shape(element, node);
    }
    node.last = leaves_;
    return node;
  }

  static void place_below(const ParquetNode& parent, const ThriftValue& element, ParquetNode& node) {
    const int64_t repetition = element.integer_at(kRepetition, 0);
    if (repetition < 0 || repetition > 2) throw ColumnError(fmt::format("a column repeats by {}", repetition));
    node.repetition = static_cast<Repetition>(repetition);
    node.path = (parent.path.empty() ? "" : parent.path + ".") + printable(node.name);
    node.definition = parent.definition + (node.repetition != Repetition::required ? 1 : 0);
    node.repeats = parent.repeats + (node.repetition == Repetition::repeated ? 1 : 0);
  }

  static void settle_shape(const ThriftValue& element, ParquetNode& node) {
    const int16_t logical = logical_of(element);
    const int64_t converted = element.integer_at(kConverted, -1);
    const bool holds_one = node.children.size() == 1 && node.children[0].repetition == Repetition::repeated;
    const bool list = logical == 3 || (logical == 0 && converted == 3);
    const bool map = logical == 2 || (logical == 0 && (converted == 1 || converted == 2));
    if (list && holds_one) node.shape = Shape::list;
    if (map && holds_one && node.children[0].children.size() == 2) node.shape = Shape::map;
    if (node.children.empty()) throw ColumnError("a struct has no columns");
  }

  const std::vector<ThriftValue>& elements_;
  size_t at_ = 0;
  size_t leaves_ = 0;
};

void add_leaves(const ParquetNode& node, std::vector<const ParquetNode*>& leaves) {
  if (node.shape == Shape::leaf) leaves.push_back(&node);
  for (const ParquetNode& child : node.children) add_leaves(child, leaves);
}

std::string big_endian(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) bytes[static_cast<size_t>(i)] = static_cast<char>(value & 255);
  return bytes;
}

/// A time of Hive and Impala: nanoseconds of a day, and the day since 4713 BC.
std::string int96_text(std::string_view bytes) {
  constexpr int64_t kDaysBefore1970 = 2440588;
  const auto nanoseconds = load<int64_t>(bytes);
  const int64_t days = static_cast<int64_t>(load<uint32_t>(bytes.substr(8))) - kDaysBefore1970;
  return date_text(days) + "T" + time_text(nanoseconds, TimeUnit::nanoseconds);
}

Json integer_value(const ParquetType& type, int64_t value) {
  switch (type.meaning) {
    case Meaning::unsigned_integer:
      return type.physical == Physical::int32 ? static_cast<uint64_t>(static_cast<uint32_t>(value))
                                              : static_cast<uint64_t>(value);
    case Meaning::decimal:
      return decimal_text(big_endian(static_cast<uint64_t>(value)), type.scale);
    case Meaning::date:
      return date_text(value);
    case Meaning::time:
      return time_text(value, type.unit);
    case Meaning::timestamp:
      return timestamp_text(value, type.unit, type.is_utc);
    default:
      return value;
  }
}

Json bytes_json(const ParquetType& type, std::string_view bytes) {
  switch (type.meaning) {
    case Meaning::text:
      return text_value(bytes);
    case Meaning::decimal:
      return decimal_text(bytes, type.scale);
    case Meaning::uuid:
      return uuid_text(bytes);
    case Meaning::half:
      return real_value(half_to_double(load<uint16_t>(bytes)));
    default:
      return loose_text_value(bytes);
  }
}

}  // namespace

ParquetNode read_parquet_schema(const ThriftValue& description) {
  return SchemaReader(description.list_at(2)).root();
}

std::vector<const ParquetNode*> leaves_of(const ParquetNode& root) {
  std::vector<const ParquetNode*> leaves;
  add_leaves(root, leaves);
  return leaves;
}

Json to_json(const ParquetType& type, const RawValue& value) {
  switch (type.physical) {
    case Physical::boolean:
      return value.integer != 0;
    case Physical::int32:
    case Physical::int64:
      return integer_value(type, value.integer);
    case Physical::float32:
    case Physical::float64:
      return real_value(value.real);
    case Physical::int96:
      return int96_text(value.bytes);
    default:
      return bytes_json(type, value.bytes);
  }
}

}  // namespace deltaw::io

#include "io/arrow_schema.h"

#include <fmt/format.h>

#include "core/printable.h"
#include "core/text_file.h"

namespace deltaw::io {
namespace {

using Kind = ArrowField::Kind;

constexpr int kDeepest = 64;

/// Numbers of the union Type in Schema.fbs.
enum Type : uint8_t {
  kNull = 1,
  kInt = 2,
  kFloatingPoint = 3,
  kBinary = 4,
  kUtf8 = 5,
  kBool = 6,
  kDecimal = 7,
  kDate = 8,
  kTime = 9,
  kTimestamp = 10,
  kInterval = 11,
  kList = 12,
  kStruct = 13,
  kFixedSizeBinary = 15,
  kFixedSizeList = 16,
  kMap = 17,
  kDuration = 18,
  kLargeBinary = 19,
  kLargeUtf8 = 20,
  kLargeList = 21,
  kRunEndEncoded = 22,
  kBinaryView = 23,
  kUtf8View = 24,
};

const char* name_of(uint8_t type) {
  switch (type) {
    case 14:
      return "a union";
    case 25:
    case 26:
      return "a list view";
    default:
      return "one that is not known";
  }
}

uint64_t bytes_of(int32_t bits, bool wide_too = false) {
  if (bits == 8 || bits == 16 || bits == 32 || bits == 64 || (wide_too && (bits == 128 || bits == 256))) {
    return static_cast<uint64_t>(bits / 8);
  }
  throw ColumnError(fmt::format("a column has numbers of {} bits", bits));
}

TimeUnit unit_of(int16_t unit) {
  if (unit < 0 || unit > 3) throw ColumnError(fmt::format("a column has the unit of time {}", unit));
  return static_cast<TimeUnit>(unit);
}

void settle_number(const FlatTable& type, uint8_t id, ArrowField& field) {
  if (id == kInt) {
    field.kind = Kind::integer;
    field.width = bytes_of(type.get<int32_t>(0, 0));
    field.is_signed = type.get<uint8_t>(1, 0) != 0;
  } else if (id == kFloatingPoint) {
    field.kind = Kind::real;
    const auto precision = type.get<int16_t>(0, 0);
    if (precision < 0 || precision > 2) throw ColumnError("a column has numbers of an unknown precision");
    field.width = uint64_t{2} << precision;
  } else {
    field.kind = Kind::decimal;
    field.scale = type.get<int32_t>(1, 0);
    field.width = bytes_of(type.get<int32_t>(2, 128), /*wide_too=*/true);
  }
}

void settle_time(const FlatTable& type, uint8_t id, ArrowField& field) {
  switch (id) {
    case kDate:
      field.kind = Kind::date;
      field.in_days = type.get<int16_t>(0, 1) == 0;
      field.width = field.in_days ? 4 : 8;
      break;
    case kTime:
      field.kind = Kind::time;
      field.unit = unit_of(type.get<int16_t>(0, 1));
      field.width = bytes_of(type.get<int32_t>(1, 32));
      break;
    case kTimestamp:
      field.kind = Kind::timestamp;
      field.unit = unit_of(type.get<int16_t>(0, 0));
      field.is_utc = !type.text(1).empty();
      field.width = 8;
      break;
    case kDuration:
      field.kind = Kind::duration;
      field.unit = unit_of(type.get<int16_t>(0, 1));
      field.width = 8;
      break;
    default: {  // an interval: months, days and milliseconds, or both
      field.kind = Kind::interval;
      const auto unit = type.get<int16_t>(0, 0);
      if (unit < 0 || unit > 2) throw ColumnError("a column has intervals of an unknown unit");
      field.width = uint64_t{4} << unit;
    }
  }
}

void settle_type(const FlatTable& type, uint8_t id, ArrowField& field) {
  switch (id) {
    case kNull:
      field.kind = Kind::null;
      return;
    case kBool:
      field.kind = Kind::boolean;
      return;
    case kInt:
    case kFloatingPoint:
    case kDecimal:
      return settle_number(type, id, field);
    case kDate:
    case kTime:
    case kTimestamp:
    case kDuration:
    case kInterval:
      return settle_time(type, id, field);
    case kUtf8:
    case kLargeUtf8:
    case kBinary:
    case kLargeBinary:
      field.kind = id == kUtf8 || id == kLargeUtf8 ? Kind::text : Kind::bytes;
      field.width = id == kLargeUtf8 || id == kLargeBinary ? 8 : 4;
      return;
    case kUtf8View:
    case kBinaryView:
      field.kind = id == kUtf8View ? Kind::text_view : Kind::bytes_view;
      return;
    case kFixedSizeBinary:
    case kFixedSizeList: {
      const auto size = type.get<int32_t>(0, 0);
      if (size < 0) throw ColumnError(fmt::format("a column has values of the length {}", size));
      field.kind = id == kFixedSizeList ? Kind::fixed_list : Kind::fixed_bytes;
      field.width = static_cast<uint64_t>(size);
      return;
    }
    case kList:
    case kLargeList:
      field.kind = Kind::list;
      field.width = id == kLargeList ? 8 : 4;
      return;
    case kMap:
      field.kind = Kind::map;
      field.width = 4;
      return;
    case kStruct:
      field.kind = Kind::record;
      return;
    case kRunEndEncoded:
      field.kind = Kind::runs;
      return;
    default:
      throw ColumnError(fmt::format("column '{}' has a type that is not read, {}", field.path, name_of(id)),
                        ColumnError::Kind::unsupported);
  }
}

void check_children(const ArrowField& field) {
  const size_t count = field.children.size();
  bool good = true;
  switch (field.kind) {
    case Kind::list:
    case Kind::fixed_list:
      good = count == 1;
      break;
    case Kind::map:
      good = count == 1 && field.children[0].kind == Kind::record && field.children[0].children.size() == 2;
      break;
    case Kind::runs:
      good = count == 2 && field.children[0].kind == Kind::integer;
      break;
    case Kind::record:
      break;
    default:
      good = count == 0;
  }
  if (!good) throw ColumnError(fmt::format("column '{}' has {} columns below it", field.path, count));
}

ArrowField read_field(const FlatTable& table, const std::string& above, int depth, uint64_t& left) {
  // Several places may lead to one description; a short file must not have columns without end.
  if (left-- == 0) throw ColumnError("it has more columns than its length allows");
  if (depth > kDeepest) throw ColumnError("its columns are nested too deeply");
  ArrowField field;
  const std::string_view name = table.text(0);
  field.name = is_utf8(name) ? std::string(name) : printable(name);
  field.path = above + printable(field.name);
  const auto type = table.table(3);
  if (!type) throw ColumnError(fmt::format("column '{}' has no type", field.path));
  settle_type(*type, table.get<uint8_t>(2, 0), field);
  if (const auto dictionary = table.table(4)) {
    field.dictionary = dictionary->get<int64_t>(0, 0);
    if (const auto places = dictionary->table(1)) {
      field.place_width = bytes_of(places->get<int32_t>(0, 0));
      field.places_signed = places->get<uint8_t>(1, 0) != 0;
    }
  }
  const FlatVector children = table.vector(5, 4);
  for (uint64_t i = 0; i < children.size(); ++i) {
    field.children.push_back(read_field(children.table(i), field.path + ".", depth + 1, left));
  }
  check_children(field);
  return field;
}

}  // namespace

std::vector<ArrowField> read_arrow_schema(const FlatTable& schema) {
  if (schema.get<int16_t>(0, 0) != 0) {
    throw ColumnError("its numbers begin with their high bytes", ColumnError::Kind::unsupported);
  }
  const FlatVector fields = schema.vector(1, 4);
  if (fields.size() == 0) throw ColumnError("it has no columns");
  std::vector<ArrowField> columns;
  uint64_t left = schema.buffer_size() / 8;
  for (uint64_t i = 0; i < fields.size(); ++i) columns.push_back(read_field(fields.table(i), "", 0, left));
  return columns;
}

}  // namespace deltaw::io

#include "io/thrift.h"

#include <bit>

#include "io/column_error.h"
#include "io/little_endian.h"

namespace deltaw::io {
namespace {

using Kind = ThriftValue::Kind;

constexpr int kDeepest = 64;

class Reader {
 public:
  explicit Reader(std::string_view& rest) : rest_(rest) {}

  ThriftValue record(int depth) {
    if (depth > kDeepest) fail("is nested too deeply");
    ThriftValue value;
    int64_t id = 0;
    for (uint8_t head = byte(); head != 0; head = byte()) {
      id = head >> 4 != 0 ? id + (head >> 4) : zigzag();
      if (id < INT16_MIN || id > INT16_MAX) fail("has a field of an impossible number");
      ThriftValue field = head_is_boolean(head) ? truth((head & 15) == 1) : typed(head & 15, depth);
      field.id = static_cast<int16_t>(id);
      value.parts.push_back(std::move(field));
    }
    return value;
  }

 private:
  static bool head_is_boolean(uint8_t head) { return (head & 15) == 1 || (head & 15) == 2; }

  static ThriftValue truth(bool value) { return {.kind = Kind::boolean, .integer = value}; }

  ThriftValue typed(int type, int depth) {
    switch (type) {
      case 1:
      case 2:  // in a list, where the byte itself tells
        return truth(byte() == 1);
      case 3:
        return {.kind = Kind::integer, .integer = static_cast<int8_t>(byte())};
      case 4:
      case 5:
      case 6:
        return {.kind = Kind::integer, .integer = zigzag()};
      case 7:
        return {.kind = Kind::real, .real = std::bit_cast<double>(load<uint64_t>(take(8)))};
      case 8:
        return {.kind = Kind::bytes, .bytes = take(varint())};
      case 9:
      case 10:
        return list(depth + 1);
      case 11:
        return map(depth + 1);
      case 12:
        return record(depth + 1);
      case 13:  // a UUID
        return {.kind = Kind::bytes, .bytes = take(16)};
      default:
        fail("has a value of an unknown type");
    }
  }

  ThriftValue list(int depth) {
    if (depth > kDeepest) fail("is nested too deeply");
    const uint8_t head = byte();
    const uint64_t count = head >> 4 == 15 ? varint() : head >> 4;
    if (count > rest_.size()) fail("has a list that is longer than what holds it");  // an item is a byte at least
    ThriftValue value{.kind = Kind::list};
    for (uint64_t i = 0; i < count; ++i) value.parts.push_back(typed(head & 15, depth));
    return value;
  }

  ThriftValue map(int depth) {
    if (depth > kDeepest) fail("is nested too deeply");
    const uint64_t count = varint();
    ThriftValue value{.kind = Kind::list};
    if (count == 0) return value;
    if (count > rest_.size()) fail("has a map that is longer than what holds it");
    const uint8_t types = byte();
    for (uint64_t i = 0; i < count; ++i) {
      value.parts.push_back(typed(types >> 4, depth));
      value.parts.push_back(typed(types & 15, depth));
    }
    return value;
  }

  uint8_t byte() { return static_cast<uint8_t>(take(1)[0]); }

  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail("ends too early");
    const std::string_view bytes = rest_.substr(0, static_cast<size_t>(count));
    rest_.remove_prefix(bytes.size());
    return bytes;
  }

  uint64_t varint() { return read_varint(rest_); }
  int64_t zigzag() { return from_zigzag(varint()); }

  [[noreturn]] static void fail(const char* what) { throw ColumnError(std::string("its description ") + what); }

  std::string_view& rest_;
};

}  // namespace

const ThriftValue* ThriftValue::find(int16_t field, Kind wanted) const {
  for (const ThriftValue& part : parts) {
    if (part.id == field && part.kind == wanted) return &part;
  }
  return nullptr;
}

int64_t ThriftValue::integer_at(int16_t field, int64_t otherwise) const {
  const ThriftValue* value = find(field, Kind::integer);
  if (value == nullptr) value = find(field, Kind::boolean);
  return value == nullptr ? otherwise : value->integer;
}

std::string_view ThriftValue::bytes_at(int16_t field) const {
  const ThriftValue* value = find(field, Kind::bytes);
  return value == nullptr ? std::string_view() : value->bytes;
}

const std::vector<ThriftValue>& ThriftValue::list_at(int16_t field) const {
  static const std::vector<ThriftValue> none;
  const ThriftValue* value = find(field, Kind::list);
  return value == nullptr ? none : value->parts;
}

ThriftValue read_thrift(std::string_view& bytes) {
  return Reader(bytes).record(0);
}

}  // namespace deltaw::io

#include "io/arrow_array.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/unpack.h"
#include "deltaw/error.h"

namespace deltaw::io {
namespace {

using Kind = ArrowField::Kind;

/// A number of that many bytes (8 at most), from the low one on.
uint64_t unsigned_at(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

int64_t signed_at(std::string_view bytes) {
  const auto unused = static_cast<int>(64 - 8 * bytes.size());
  return static_cast<int64_t>(unsigned_at(bytes) << unused) >> unused;
}

std::string reversed(std::string_view bytes) {
  return {bytes.rbegin(), bytes.rend()};
}

}  // namespace

// ---- batches ----

ArrowBatch::ArrowBatch(const FlatTable& batch, std::string_view body)
    : body_(body), may_unpack_(most_unpacked(body.size())) {
  length_ = batch.get<int64_t>(0, 0);
  if (length_ < 0) throw ColumnError("a batch has a length below 0");
  nodes_ = batch.vector(1, 16);
  buffers_ = batch.vector(2, 16);
  variadic_ = batch.vector(4, 8);
  if (const auto compression = batch.table(3)) {
    if (compression->get<int8_t>(0, 0) != 1) {
      throw ColumnError("its batches are packed by LZ4", ColumnError::Kind::unsupported);
    }
    packed_ = true;
  }
}

uint64_t ArrowBatch::next_length() {
  if (node_ >= nodes_.size()) throw ColumnError("a batch has too few columns");
  const auto length = nodes_.number<int64_t>(node_++);
  if (length < 0) throw ColumnError("a column has a length below 0");
  return static_cast<uint64_t>(length);
}

std::string_view ArrowBatch::next_buffer() {
  if (buffer_ >= buffers_.size()) throw ColumnError("a batch has too few buffers");
  const auto offset = buffers_.number<int64_t>(buffer_), length = buffers_.number<int64_t>(buffer_, 8);
  ++buffer_;
  const auto size = static_cast<int64_t>(body_.size());
  if (offset < 0 || length < 0 || offset > size || length > size - offset) {
    throw ColumnError("a buffer lies outside of its batch");
  }
  const std::string_view bytes = body_.substr(static_cast<size_t>(offset), static_cast<size_t>(length));
  if (!packed_ || bytes.empty()) return bytes;
  const auto said = load<int64_t>(bytes);
  if (said == -1) return bytes.substr(8);
  if (said < 0) throw ColumnError("a buffer has a length below 0");
  try {
    auto text = std::make_unique<std::string>(
        unpack(bytes.substr(8), Packing::zstd, std::min(static_cast<uint64_t>(said), may_unpack_), "a buffer"));
    if (text->size() != static_cast<size_t>(said)) throw ColumnError("a buffer has another length than it says");
    may_unpack_ -= text->size();
    unpacked_.push_back(std::move(text));
  } catch (const Error& error) {
    throw ColumnError("in a buffer, " + error.parts().what);
  }
  return *unpacked_.back();
}

uint64_t ArrowBatch::next_variadic_count() {
  if (variadic_at_ >= variadic_.size()) throw ColumnError("a batch does not say how many buffers a column has");
  const auto count = variadic_.number<int64_t>(variadic_at_++);
  if (count < 0 || static_cast<uint64_t>(count) > buffers_.size() - std::min(buffer_, buffers_.size())) {
    throw ColumnError("a batch has too few buffers");
  }
  return static_cast<uint64_t>(count);
}

// ---- columns ----

ArrowArray::ArrowArray(const ArrowField& field, ArrowBatch& batch, const ArrowDictionaries& dictionaries)
    : field_(field), dictionaries_(dictionaries), length_(batch.next_length()) {
  constexpr uint64_t kMost = uint64_t{1} << 48;  // so that products of it stay numbers
  if (length_ > kMost) refuse("it has an impossible length");
  if (field.kind == Kind::null && !field.dictionary) return;
  if (field.kind == Kind::runs && !field.dictionary) {
    for (const ArrowField& child : field.children) children_.emplace_back(child, batch, dictionaries);
    return;
  }
  validity_ = batch.next_buffer();
  if (!validity_.empty() && validity_.size() < (length_ + 7) / 8) refuse("its nulls are marked for some rows only");
  if (field.dictionary) {
    first_ = batch.next_buffer();
    return;
  }
  switch (field.kind) {
    case Kind::record:
    case Kind::fixed_list:
      break;
    case Kind::text:
    case Kind::bytes:
      first_ = batch.next_buffer();
      data_ = batch.next_buffer();
      break;
    case Kind::text_view:
    case Kind::bytes_view:
      first_ = batch.next_buffer();
      for (uint64_t left = batch.next_variadic_count(); left > 0; --left) views_.push_back(batch.next_buffer());
      break;
    default:
      first_ = batch.next_buffer();
  }
  children_.reserve(field.children.size());
  for (const ArrowField& child : field.children) children_.emplace_back(child, batch, dictionaries);
}

Json ArrowArray::value(uint64_t row, Allowance& allowance) const {
  allowance.spend(kValueBytes);
  if (row >= length_) refuse("it has fewer rows than it should");
  if (!validity_.empty() && bits_at(validity_, row, 1) == 0) return nullptr;
  allowance.enter();  // a dictionary may lead into itself
  Json value = field_.dictionary ? from_dictionary(row, allowance) : content(row, allowance);
  allowance.leave();
  return value;
}

Json ArrowArray::content(uint64_t row, Allowance& allowance) const {
  switch (field_.kind) {
    case Kind::null:
      return nullptr;
    case Kind::boolean:
      if (row / 8 >= first_.size()) refuse("it has fewer values than rows");
      return bits_at(first_, row, 1) == 1;
    case Kind::text:
    case Kind::bytes:
    case Kind::text_view:
    case Kind::bytes_view: {
      const bool is_view = field_.kind == Kind::text_view || field_.kind == Kind::bytes_view;
      const std::string_view bytes = is_view ? view(row) : text(row);
      allowance.spend(bytes.size());
      if (field_.kind == Kind::bytes || field_.kind == Kind::bytes_view) return loose_text_value(bytes);
      try {
        return text_value(bytes);
      } catch (const ColumnError& error) {
        throw ColumnError(fmt::format("column '{}': {}", field_.path, error.what()), error.kind());
      }
    }
    case Kind::fixed_bytes:
      return loose_text_value(at(row, field_.width));
    case Kind::interval:
      return bytes_value();
    case Kind::list: {
      const auto [begin, end] = range(row);
      return items(begin, end, allowance);
    }
    case Kind::fixed_list:
      return items(row * field_.width, (row + 1) * field_.width, allowance);
    case Kind::record: {
      Json object = Json::object();
      for (size_t i = 0; i < children_.size(); ++i) {
        allowance.spend(kValueBytes + field_.children[i].name.size());
        object[field_.children[i].name] = children_[i].value(row, allowance);
      }
      return object;
    }
    case Kind::map: {
      const auto [begin, end] = range(row);
      Json pairs = Json::array(), object = Json::object();
      const auto& names = field_.children[0].children;
      for (Json& entry : items(begin, end, allowance)) {
        if (!entry.is_object()) refuse("an entry of a map is null");
        Json key = entry[names[0].name], held = entry[names[1].name];
        if (key.is_string()) object[key.get<std::string>()] = held;
        pairs.push_back(Json::array({std::move(key), std::move(held)}));
      }
      return object.size() < pairs.size() ? pairs : object;
    }
    case Kind::runs:
      return run_value(row, allowance);
    default:
      return number(row);
  }
}

Json ArrowArray::from_dictionary(uint64_t row, Allowance& allowance) const {
  const std::string_view bytes = at(row, field_.place_width);
  const uint64_t place = field_.places_signed ? static_cast<uint64_t>(signed_at(bytes)) : unsigned_at(bytes);
  const auto found = dictionaries_.find(*field_.dictionary);
  uint64_t left = place;
  if (found != dictionaries_.end()) {
    for (const auto& part : found->second) {
      if (left < part->length()) return part->value(left, allowance);
      left -= part->length();
    }
  }
  refuse(fmt::format("a value is number {} of a dictionary of {}", place, place - left));
}

Json ArrowArray::number(uint64_t row) const {
  const std::string_view bytes = at(row, field_.width);
  switch (field_.kind) {
    case Kind::integer:
      return field_.is_signed ? Json(signed_at(bytes)) : Json(unsigned_at(bytes));
    case Kind::real:
      return real_value(field_.width == 2   ? half_to_double(load<uint16_t>(bytes))
                        : field_.width == 4 ? static_cast<double>(load<float>(bytes))
                                            : load<double>(bytes));
    case Kind::decimal:
      return decimal_text(reversed(bytes), field_.scale);
    case Kind::date:
      return field_.in_days ? date_text(signed_at(bytes))
                            : timestamp_text(signed_at(bytes), TimeUnit::milliseconds, false).substr(0, 10);
    case Kind::time:
      return time_text(signed_at(bytes), field_.unit);
    case Kind::timestamp:
      return timestamp_text(signed_at(bytes), field_.unit, field_.is_utc);
    default:
      return duration_text(signed_at(bytes), field_.unit);
  }
}

/// The first run that ends behind the row.
Json ArrowArray::run_value(uint64_t row, Allowance& allowance) const {
  const ArrowArray& ends = children_[0];
  uint64_t begin = 0, end = ends.length_;
  while (begin < end) {
    const uint64_t middle = begin + (end - begin) / 2;
    if (unsigned_at(ends.at(middle, ends.field_.width)) > row) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return children_[1].value(begin, allowance);
}

Json ArrowArray::items(uint64_t begin, uint64_t end, Allowance& allowance) const {
  Json list = Json::array();
  for (uint64_t i = begin; i < end; ++i) list.push_back(children_[0].value(i, allowance));
  return list;
}

std::pair<uint64_t, uint64_t> ArrowArray::range(uint64_t row) const {
  const uint64_t begin = unsigned_at(at(row, field_.width)), end = unsigned_at(at(row + 1, field_.width));
  if (begin > end) refuse("a value ends before it begins");
  return {begin, end};
}

std::string_view ArrowArray::text(uint64_t row) const {
  const auto [begin, end] = range(row);
  if (end > data_.size()) refuse("a text lies outside of its buffer");
  return data_.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

/// Short texts stand in the view itself; of longer ones, it says where.
std::string_view ArrowArray::view(uint64_t row) const {
  const std::string_view bytes = at(row, 16);
  const auto size = load<uint32_t>(bytes);
  if (size <= 12) return bytes.substr(4, size);
  const auto buffer = load<uint32_t>(bytes.substr(8)), offset = load<uint32_t>(bytes.substr(12));
  if (buffer >= views_.size() || offset > views_[buffer].size() || size > views_[buffer].size() - offset) {
    refuse("a text lies outside of its buffers");
  }
  return views_[buffer].substr(offset, size);
}

std::string_view ArrowArray::at(uint64_t row, uint64_t width) const {
  const uint64_t begin = row * width;
  if (begin > first_.size() || width > first_.size() - begin) refuse("it has fewer values than rows");
  return first_.substr(static_cast<size_t>(begin), static_cast<size_t>(width));
}

void ArrowArray::refuse(const std::string& what) const {
  throw ColumnError(fmt::format("column '{}': {}", field_.path, what));
}

}  // namespace deltaw::io

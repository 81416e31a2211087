#include "io/parquet_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "io/column_error.h"
#include "io/little_endian.h"

namespace deltaw::io {
namespace {

std::string_view take(std::string_view& rest, uint64_t count) {
  if (count > rest.size()) throw ColumnError("a page ends before its values do");
  const std::string_view bytes = rest.substr(0, static_cast<size_t>(count));
  rest.remove_prefix(bytes.size());
  return bytes;
}

/// Bytes of one value; 0 for those that say their length and for truth values.
size_t width_of(Physical physical, size_t length) {
  switch (physical) {
    case Physical::int32:
    case Physical::float32:
      return 4;
    case Physical::int64:
    case Physical::float64:
      return 8;
    case Physical::int96:
      return 12;
    case Physical::fixed_bytes:
      return length;
    default:
      return 0;
  }
}

RawValue value_of(Physical physical, std::string_view bytes) {
  switch (physical) {
    case Physical::int32:
      return {.integer = load<int32_t>(bytes)};
    case Physical::int64:
      return {.integer = load<int64_t>(bytes)};
    case Physical::float32:
      return {.real = load<float>(bytes)};
    case Physical::float64:
      return {.real = load<double>(bytes)};
    default:
      return {.bytes = bytes};
  }
}

class Plain : public RawValues {
 public:
  Plain(Physical physical, size_t length, std::string_view bytes)
      : physical_(physical), width_(width_of(physical, length)), rest_(bytes) {}

  RawValue next() override {
    if (physical_ == Physical::byte_array) {
      const auto size = load<uint32_t>(take(rest_, 4));
      return {.bytes = take(rest_, size)};
    }
    return value_of(physical_, take(rest_, width_));
  }

 private:
  Physical physical_;
  size_t width_;
  std::string_view rest_;
};

class PlainBooleans : public RawValues {
 public:
  explicit PlainBooleans(std::string_view bytes) : bytes_(bytes) {}

  RawValue next() override {
    if (at_ / 8 >= bytes_.size()) throw ColumnError("a page ends before its values do");
    return {.integer = static_cast<int64_t>(bits_at(bytes_, at_++, 1))};
  }

 private:
  std::string_view bytes_;
  uint64_t at_ = 0;
};

class RunBooleans : public RawValues {
 public:
  explicit RunBooleans(std::string_view bytes) {
    const auto size = load<uint32_t>(take(bytes, 4));
    runs_ = HybridReader(take(bytes, size), 1);
  }

  RawValue next() override { return {.integer = runs_.next()}; }

 private:
  HybridReader runs_;
};

class Indexed : public RawValues {
 public:
  Indexed(std::string_view bytes, const std::vector<RawValue>& dictionary) : dictionary_(dictionary) {
    const auto width = static_cast<uint8_t>(take(bytes, 1)[0]);
    if (width > 32) throw ColumnError(fmt::format("places in a dictionary have {} bits", width));
    places_ = HybridReader(bytes, width);
  }

  RawValue next() override {
    const uint32_t place = places_.next();
    if (place < dictionary_.size()) return dictionary_[place];
    throw ColumnError(fmt::format("a value is number {} of a dictionary of {}", place, dictionary_.size()));
  }

 private:
  const std::vector<RawValue>& dictionary_;
  HybridReader places_;
};

class DeltaIntegers : public RawValues {
 public:
  DeltaIntegers(Physical physical, std::string_view bytes) : physical_(physical), numbers_(bytes) {}

  RawValue next() override {
    const int64_t value = numbers_.next();
    return {.integer = physical_ == Physical::int32 ? static_cast<int32_t>(value) : value};
  }

 private:
  Physical physical_;
  DeltaReader numbers_;
};

class DeltaLengths : public RawValues {
 public:
  explicit DeltaLengths(std::string_view bytes) : lengths_(bytes), rest_(lengths_.after()) {}

  RawValue next() override {
    const int64_t length = lengths_.next();
    if (length < 0) throw ColumnError("a text has a length below 0");
    return {.bytes = take(rest_, static_cast<uint64_t>(length))};
  }

 private:
  DeltaReader lengths_;
  std::string_view rest_;
};

/// What a text shares with the beginning of the one before it is not written again.
class DeltaTexts : public RawValues {
 public:
  DeltaTexts(Physical physical, size_t length, std::string_view bytes)
      : fixed_(physical == Physical::fixed_bytes ? length : 0), shared_(bytes), ends_(shared_.after()) {}

  RawValue next() override {
    const int64_t shared = shared_.next();
    if (shared < 0 || static_cast<uint64_t>(shared) > text_.size()) {
      throw ColumnError("a text shares more with the one before it than that has");
    }
    text_.resize(static_cast<size_t>(shared));
    text_ += ends_.next().bytes;
    if (fixed_ > 0 && text_.size() != fixed_) throw ColumnError("a value has another length than its column");
    return {.bytes = text_};
  }

 private:
  size_t fixed_;
  DeltaReader shared_;
  DeltaLengths ends_;
  std::string text_;
};

/// The first bytes of all values, then the second ones ...
class SplitStreams : public RawValues {
 public:
  SplitStreams(Physical physical, size_t length, std::string_view bytes)
      : physical_(physical),
        bytes_(bytes),
        value_(width_of(physical, length), '\0'),
        count_(bytes.size() / value_.size()) {
    if (bytes.size() % value_.size() != 0) throw ColumnError("the streams of a page differ in length");
  }

  RawValue next() override {
    if (at_ >= count_) throw ColumnError("a page ends before its values do");
    for (size_t i = 0; i < value_.size(); ++i) value_[i] = bytes_[i * count_ + at_];
    ++at_;
    return value_of(physical_, value_);
  }

 private:
  Physical physical_;
  std::string_view bytes_;
  std::string value_;
  size_t count_;
  size_t at_ = 0;
};

[[noreturn]] void refuse(Encoding encoding) {
  throw ColumnError(fmt::format("values of its type cannot have the encoding {}", static_cast<int>(encoding)));
}

}  // namespace

// ---- runs ----

HybridReader::HybridReader(std::string_view bytes, int width) : rest_(bytes), width_(width) {}

uint32_t HybridReader::next() {
  if (width_ == 0) return 0;
  while (left_ == 0) begin_run();
  --left_;
  if (!packed_) return repeated_;
  const auto value = static_cast<uint32_t>(bits_at(group_, at_, width_));
  at_ += static_cast<uint64_t>(width_);
  return value;
}

void HybridReader::begin_run() {
  if (rest_.empty()) throw ColumnError("a page ends before its levels or values do");
  const uint64_t head = read_varint(rest_);
  packed_ = (head & 1) != 0;
  left_ = head >> 1;
  if (packed_) {
    // Groups of eight, of which the last may be cut where the page ends.
    const auto width = static_cast<uint64_t>(width_);
    const uint64_t groups = std::min<uint64_t>(left_, rest_.size() / width + 1);
    group_ = take(rest_, std::min<uint64_t>(groups * width, rest_.size()));
    left_ = std::min<uint64_t>(groups * 8, group_.size() * 8 / width);
    at_ = 0;
    return;
  }
  const std::string_view bytes = take(rest_, static_cast<uint64_t>(width_ + 7) / 8);
  repeated_ = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    repeated_ |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  }
}

// ---- differences ----

DeltaReader::DeltaReader(std::string_view bytes) : rest_(bytes) {
  const uint64_t block = read_varint(rest_);
  parts_ = read_varint(rest_);
  total_ = read_varint(rest_);
  value_ = static_cast<uint64_t>(from_zigzag(read_varint(rest_)));
  constexpr uint64_t kLargest = uint64_t{1} << 31;
  if (parts_ == 0 || block > kLargest || parts_ > block || block % parts_ != 0 || block / parts_ % 8 != 0) {
    throw ColumnError(fmt::format("a page has blocks of {} differences in {} parts", block, parts_));
  }
  part_size_ = block / parts_;
  part_ = static_cast<size_t>(parts_);
  begin_ = rest_;
}

DeltaReader::Block DeltaReader::begin_block(std::string_view& rest) const {
  Block block;
  block.smallest = from_zigzag(read_varint(rest));
  block.widths = take(rest, parts_);
  return block;
}

std::string_view DeltaReader::take_part(std::string_view& rest, int width) const {
  if (width > 64) throw ColumnError(fmt::format("a difference has {} bits", width));
  return take(rest, part_size_ / 8 * static_cast<uint64_t>(width));
}

int64_t DeltaReader::next() {
  if (read_ == total_) throw ColumnError("a page ends before its values do");
  if (read_++ == 0) return static_cast<int64_t>(value_);
  if (left_ == 0) {
    if (part_ == parts_) {
      block_ = begin_block(rest_);
      part_ = 0;
    }
    packed_ = take_part(rest_, static_cast<uint8_t>(block_.widths[part_]));
    left_ = part_size_;
    at_ = 0;
    ++part_;
  }
  const int width = static_cast<uint8_t>(block_.widths[part_ - 1]);
  value_ += static_cast<uint64_t>(block_.smallest) + bits_at(packed_, at_, width);
  at_ += static_cast<uint64_t>(width);
  --left_;
  return static_cast<int64_t>(value_);
}

std::string_view DeltaReader::after() const {
  std::string_view rest = begin_;
  uint64_t left = total_ > 0 ? total_ - 1 : 0;
  while (left > 0) {
    const Block block = begin_block(rest);
    for (size_t part = 0; part < block.widths.size() && left > 0; ++part) {
      take_part(rest, static_cast<uint8_t>(block.widths[part]));
      left -= std::min(left, part_size_);
    }
  }
  return rest;
}

// ---- pages ----

std::unique_ptr<RawValues> read_values(Encoding encoding, Physical physical, size_t length, std::string_view bytes,
                                       const std::vector<RawValue>* dictionary) {
  const bool is_text = physical == Physical::byte_array;
  const bool is_integer = physical == Physical::int32 || physical == Physical::int64;
  switch (encoding) {
    case Encoding::plain:
      if (physical == Physical::boolean) return std::make_unique<PlainBooleans>(bytes);
      return std::make_unique<Plain>(physical, length, bytes);
    case Encoding::plain_dictionary:
    case Encoding::rle_dictionary:
      if (dictionary == nullptr) throw ColumnError("a page needs a dictionary, and there is none before it");
      return std::make_unique<Indexed>(bytes, *dictionary);
    case Encoding::rle:
      if (physical != Physical::boolean) refuse(encoding);
      return std::make_unique<RunBooleans>(bytes);
    case Encoding::delta_binary_packed:
      if (!is_integer) refuse(encoding);
      return std::make_unique<DeltaIntegers>(physical, bytes);
    case Encoding::delta_length_byte_array:
      if (!is_text) refuse(encoding);
      return std::make_unique<DeltaLengths>(bytes);
    case Encoding::delta_byte_array:
      if (!is_text && physical != Physical::fixed_bytes) refuse(encoding);
      return std::make_unique<DeltaTexts>(physical, length, bytes);
    case Encoding::byte_stream_split:
      if (width_of(physical, length) == 0 || physical == Physical::int96) refuse(encoding);
      return std::make_unique<SplitStreams>(physical, length, bytes);
    default:
      refuse(encoding);
  }
}

std::vector<RawValue> read_dictionary(Physical physical, size_t length, std::string_view bytes, int64_t count) {
  if (physical == Physical::boolean) throw ColumnError("truth values have a dictionary");
  const uint64_t least = std::max<uint64_t>(physical == Physical::byte_array ? 4 : width_of(physical, length), 1);
  if (count < 0 || static_cast<uint64_t>(count) > bytes.size() / least) {
    throw ColumnError(fmt::format("a dictionary of {} bytes cannot hold {} values", bytes.size(), count));
  }
  std::vector<RawValue> values;
  values.reserve(static_cast<size_t>(count));
  Plain plain(physical, length, bytes);
  for (int64_t i = 0; i < count; ++i) values.push_back(plain.next());
  return values;
}

}  // namespace deltaw::io

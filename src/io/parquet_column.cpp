#include "io/parquet_column.h"

#include <fmt/format.h>
#include <snappy.h>
#include <zlib.h>

#include <algorithm>
#include <bit>

#include "core/unpack.h"
#include "deltaw/error.h"
#include "io/column_error.h"
#include "io/little_endian.h"

namespace deltaw::io {
namespace {

enum Codec { kUncompressed = 0, kSnappy = 1, kGzip = 2, kZstd = 6 };

// Fields of ColumnChunk, ColumnMetaData and PageHeader.
enum Field : int16_t {
  kOtherFile = 1,
  kMetadata = 3,
  kCrypto = 8,

  kType = 1,
  kCodec = 4,
  kEntries = 5,
  kSize = 7,
  kDataOffset = 9,
  kDictionaryOffset = 11,

  kPageType = 1,
  kUnpackedSize = 2,
  kPackedSize = 3,
  kChecksum = 4,
  kDataHeader = 5,
  kDictionaryHeader = 7,
  kNewDataHeader = 8,
};

const char* codec_name(int64_t codec) {
  constexpr const char* kNames[] = {"none", "snappy", "gzip", "LZO", "brotli", "LZ4", "zstd", "LZ4_RAW"};
  return codec >= 0 && codec < 8 ? kNames[codec] : "of an unknown kind";
}

std::string unpack_snappy(std::string_view packed, size_t size) {
  size_t said = 0;
  // No stream grows more than that, so the room is covered by the bytes that there are.
  const bool possible = size / 64 <= packed.size() + 1;
  if (!possible || !snappy::GetUncompressedLength(packed.data(), packed.size(), &said) || said != size) {
    throw ColumnError("a page is not the snappy data that it should be");
  }
  std::string text(size, '\0');
  if (!snappy::RawUncompress(packed.data(), packed.size(), text.data())) {
    throw ColumnError("the snappy data of a page is damaged");
  }
  return text;
}

std::string unpack_stream(std::string_view packed, Packing packing, size_t size) {
  // Each column has a page in memory.
  const size_t most = std::max<size_t>(size_t{64} << 20, 1000 * packed.size());
  try {
    std::string text = unpack(packed, packing, std::min(size, most), "a page");
    if (text.size() == size) return text;
  } catch (const Error& error) {
    throw ColumnError("in a page, " + error.parts().what);
  }
  throw ColumnError("a page has another length than its header says");
}

std::string_view take(std::string_view& rest, uint64_t count) {
  if (count > rest.size()) throw ColumnError("a page ends before its levels or values do");
  const std::string_view bytes = rest.substr(0, static_cast<size_t>(count));
  rest.remove_prefix(bytes.size());
  return bytes;
}

int64_t size_at(const ThriftValue& record, int16_t field) {
  const int64_t size = record.integer_at(field, -1);
  if (size < 0 || size > INT32_MAX) throw ColumnError(fmt::format("a page has the length {}", size));
  return size;
}

Encoding encoding_at(const ThriftValue& header, int16_t field) {
  const int64_t encoding = header.integer_at(field, -1);
  if (encoding < 0 || encoding > 9) throw ColumnError(fmt::format("a page has the unknown encoding {}", encoding));
  return static_cast<Encoding>(encoding);
}

}  // namespace

ParquetColumn::ParquetColumn(const FileBytes& file, const ParquetNode& leaf, const ThriftValue& chunk) : leaf_(leaf) {
  if (!chunk.bytes_at(kOtherFile).empty()) {
    throw ColumnError("its values are in another file", ColumnError::Kind::unsupported);
  }
  const ThriftValue* metadata = chunk.record_at(kMetadata);
  if (metadata == nullptr || chunk.record_at(kCrypto) != nullptr) {
    throw ColumnError("it is encrypted", ColumnError::Kind::unsupported);
  }
  if (metadata->integer_at(kType, -1) != static_cast<int64_t>(leaf.type.physical)) {
    throw ColumnError("the row group has it with another type");
  }
  const int64_t codec = metadata->integer_at(kCodec, -1);
  if (codec != kUncompressed && codec != kSnappy && codec != kGzip && codec != kZstd) {
    throw ColumnError(fmt::format("its compression is {}", codec_name(codec)), ColumnError::Kind::unsupported);
  }
  codec_ = static_cast<int>(codec);
  left_ = metadata->integer_at(kEntries, -1);
  const int64_t data = metadata->integer_at(kDataOffset, -1), dictionary = metadata->integer_at(kDictionaryOffset, 0);
  const int64_t begin = dictionary > 0 ? std::min(dictionary, data) : data, size = metadata->integer_at(kSize, -1);
  if (left_ < 0 || begin < 4 || size < 0) throw ColumnError("the row group does not say where it stands");
  chunk_ = file.read(static_cast<uint64_t>(begin), static_cast<uint64_t>(size));
  rest_ = chunk_;
  load_entry();
}

RawValue ParquetColumn::value() {
  if (!values_)
    values_ = read_values(encoding_, leaf_.type.physical, leaf_.type.length, value_bytes_,
                          has_dictionary_ ? &dictionary_ : nullptr);
  return values_->next();
}

void ParquetColumn::advance() {
  if (at_end_) throw ColumnError("it has fewer entries than its row group has rows");
  load_entry();
}

void ParquetColumn::load_entry() {
  while (page_left_ == 0) {
    if (left_ == 0 || !load_page()) {
      if (left_ != 0) throw ColumnError(fmt::format("{} entries are missing at its end", left_));
      at_end_ = true;
      return;
    }
  }
  --page_left_;
  repetition_ = leaf_.repeats > 0 ? static_cast<int>(repetitions_.next()) : 0;
  definition_ = leaf_.definition > 0 ? static_cast<int>(definitions_.next()) : 0;
  if (repetition_ > leaf_.repeats || definition_ > leaf_.definition) {
    throw ColumnError("an entry has a level that its columns do not have");
  }
}

bool ParquetColumn::load_page() {
  while (!rest_.empty()) {
    const ThriftValue header = read_thrift(rest_);
    const int64_t size = size_at(header, kUnpackedSize);
    const std::string_view body = take(rest_, static_cast<uint64_t>(size_at(header, kPackedSize)));
    if (header.find(kChecksum, ThriftValue::Kind::integer) != nullptr) {
      const auto said = static_cast<uint32_t>(header.integer_at(kChecksum, 0));
      const auto found = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
      if (said != static_cast<uint32_t>(found)) throw ColumnError("a page is damaged: its checksum is another one");
    }
    if (const ThriftValue* dictionary = header.record_at(kDictionaryHeader)) {
      load_dictionary(*dictionary, body, size);
      continue;
    }
    const ThriftValue* old_page = header.record_at(kDataHeader);
    const ThriftValue* new_page = header.record_at(kNewDataHeader);
    if (old_page == nullptr && new_page == nullptr) {
      if (header.integer_at(kPageType, 0) == 1) continue;  // an index
      throw ColumnError("a page has no header of its kind");
    }
    values_.reset();
    if (old_page != nullptr) {
      load_old_page(*old_page, body, size);
    } else {
      load_new_page(*new_page, body, size);
    }
    if (page_left_ < 0 || page_left_ > left_) {
      throw ColumnError(fmt::format("a page has {} entries, and {} are left of its row group", page_left_, left_));
    }
    left_ -= page_left_;
    return true;
  }
  return false;
}

void ParquetColumn::load_dictionary(const ThriftValue& header, std::string_view body, int64_t size) {
  if (has_dictionary_) throw ColumnError("a row group has two dictionaries");
  dictionary_bytes_ = unpacked(body, size);
  dictionary_ = read_dictionary(leaf_.type.physical, leaf_.type.length, dictionary_bytes_, header.integer_at(1, -1));
  has_dictionary_ = true;
}

void ParquetColumn::load_old_page(const ThriftValue& header, std::string_view body, int64_t size) {
  page_ = unpacked(body, size);
  page_left_ = header.integer_at(1, -1);
  encoding_ = encoding_at(header, 2);
  std::string_view rest = page_;
  for (const auto& [most, field, reader] : {std::tuple{leaf_.repeats, int16_t{4}, &repetitions_},
                                            std::tuple{leaf_.definition, int16_t{3}, &definitions_}}) {
    if (most == 0) continue;
    if (encoding_at(header, field) != Encoding::rle) {
      throw ColumnError("its levels have the old encoding BIT_PACKED", ColumnError::Kind::unsupported);
    }
    const auto length = load<uint32_t>(take(rest, 4));
    *reader = levels(take(rest, length), most);
  }
  value_bytes_ = rest;
}

void ParquetColumn::load_new_page(const ThriftValue& header, std::string_view body, int64_t size) {
  page_left_ = header.integer_at(1, -1);
  encoding_ = encoding_at(header, 4);
  const int64_t definitions = size_at(header, 5), repetitions = size_at(header, 6);
  if (definitions + repetitions > size) throw ColumnError("the levels of a page are longer than it is");
  // They are never packed.
  std::string whole(take(body, static_cast<uint64_t>(repetitions + definitions)));
  const size_t levels_size = whole.size();
  const bool packed = header.integer_at(7, 1) != 0 && !body.empty();
  const int64_t left = size - definitions - repetitions;
  if (!packed && static_cast<int64_t>(body.size()) != left) {
    throw ColumnError("a page has another length than its header says");
  }
  whole += packed ? unpacked(body, left) : std::string(body);
  page_ = std::move(whole);
  std::string_view rest = std::string_view(page_).substr(0, levels_size);
  repetitions_ = levels(take(rest, static_cast<uint64_t>(repetitions)), leaf_.repeats);
  definitions_ = levels(rest, leaf_.definition);
  value_bytes_ = std::string_view(page_).substr(levels_size);
}

std::string ParquetColumn::unpacked(std::string_view body, int64_t size) const {
  const auto bytes = static_cast<size_t>(size);
  switch (codec_) {
    case kSnappy:
      return unpack_snappy(body, bytes);
    case kGzip:
      return unpack_stream(body, Packing::gzip, bytes);
    case kZstd:
      return unpack_stream(body, Packing::zstd, bytes);
    default:
      if (body.size() != bytes) throw ColumnError("a page has another length than its header says");
      return std::string(body);
  }
}

HybridReader ParquetColumn::levels(std::string_view bytes, int most) const {
  return {bytes, static_cast<int>(std::bit_width(static_cast<unsigned>(most)))};
}

}  // namespace deltaw::io

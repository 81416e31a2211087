#include "io/gguf_writer.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <set>
#include <type_traits>

#include <fmt/format.h>

#include "core/files.h"
#include "deltaw/error.h"
#include "io/encode.h"

namespace deltaw::io {
namespace {

constexpr uint32_t kVersion = 3;
constexpr size_t kLongestName = 63;        // as ggml has it
constexpr size_t kPieceNumbers = 1 << 16;  // encoded at once: whole blocks of every type

[[noreturn]] void refuse_to_write(const std::string& what, const std::string& where) {
  throw Error({.id = "internal.gguf", .what = what, .where = where, .fix = "report this as a bug"});
}

template <class Number>
void put(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void put_text(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

/// The value as a Number, nothing where it is none or lies outside.
template <class Number>
std::optional<Number> number_of(const Json& value) {
  if constexpr (std::is_same_v<Number, bool>) {
    return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
  } else if constexpr (std::is_floating_point_v<Number>) {
    return value.is_number() ? std::optional(value.get<Number>()) : std::nullopt;
  } else {
    if (value.is_number_unsigned()) {
      const auto number = value.get<uint64_t>();
      return number <= static_cast<uint64_t>(std::numeric_limits<Number>::max())
                 ? std::optional(static_cast<Number>(number))
                 : std::nullopt;
    }
    if (!value.is_number_integer()) return std::nullopt;
    const auto number = value.get<int64_t>();
    return std::in_range<Number>(number) ? std::optional(static_cast<Number>(number)) : std::nullopt;
  }
}

class Header {
 public:
  explicit Header(std::string file) : file_(std::move(file)) {}

  void add(const GgufValue& value) {
    where_ = file_ + ", key '" + value.key + "'";
    if (value.key.empty() || value.key.size() > 65535 || !is_utf8(value.key)) refuse_to_write("this is no key", where_);
    if (!keys_.insert(value.key).second) refuse_to_write("the key stands twice", where_);
    put_text(out_, value.key);
    put(out_, static_cast<uint32_t>(value.type));
    if (value.type != GgufType::list) return add_plain(value.type, value.value);
    if (!value.value.is_array() || value.items == GgufType::list) refuse_to_write("the value is no plain list", where_);
    put(out_, static_cast<uint32_t>(value.items));
    put<uint64_t>(out_, value.value.size());
    for (const Json& member : value.value) add_plain(value.items, member);
  }

  void add(const GgufTensor& tensor, uint64_t offset) {
    put_text(out_, tensor.name);
    put(out_, static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      put(out_, static_cast<uint64_t>(*size));
    }
    put(out_, *gguf_number(tensor.dtype));
    put(out_, offset);
  }

  const std::string& bytes() const { return out_; }

 private:
  template <class Number>
  void add_number(const Json& value) {
    const auto number = number_of<Number>(value);
    if (!number) refuse_to_write("the value " + value.dump().substr(0, 60) + " is not of its type", where_);
    put(out_, *number);
  }

  void add_plain(GgufType type, const Json& value) {
    switch (type) {
      case GgufType::u8:
        return add_number<uint8_t>(value);
      case GgufType::i8:
        return add_number<int8_t>(value);
      case GgufType::u16:
        return add_number<uint16_t>(value);
      case GgufType::i16:
        return add_number<int16_t>(value);
      case GgufType::u32:
        return add_number<uint32_t>(value);
      case GgufType::i32:
        return add_number<int32_t>(value);
      case GgufType::f32:
        return add_number<float>(value);
      case GgufType::u64:
        return add_number<uint64_t>(value);
      case GgufType::i64:
        return add_number<int64_t>(value);
      case GgufType::f64:
        return add_number<double>(value);
      case GgufType::boolean:
        return add_number<bool>(value);
      default:
        break;
    }
    if (type != GgufType::text || !value.is_string()) refuse_to_write("the value is no text", where_);
    const auto& text = value.get_ref<const std::string&>();
    if (!is_utf8(text)) refuse_to_write("the text is not UTF-8", where_);
    put_text(out_, text);
  }

  std::string file_, where_, out_;
  std::set<std::string> keys_;
};

uint64_t alignment_of(const std::vector<GgufValue>& values, const std::string& file) {
  for (const GgufValue& value : values) {
    if (value.key != "general.alignment") continue;
    const auto alignment = number_of<uint32_t>(value.value);
    if (alignment && std::has_single_bit(*alignment)) return *alignment;
    refuse_to_write("the alignment is no power of two", file);
  }
  return kGgufAlignment;
}

/// Stored bytes.
uint64_t checked_size(const GgufTensor& tensor, std::set<std::string>& names, const std::string& file) {
  const std::string where = file + ", tensor '" + tensor.name + "'";
  const auto count = element_count(tensor.shape);
  const std::optional<uint64_t> stored = count ? stored_size(tensor.dtype, *count) : std::nullopt;
  const uint64_t size = stored.value_or(0);
  std::string fault;
  if (tensor.name.empty() || tensor.name.size() > kLongestName || !is_utf8(tensor.name)) fault = "this is no name";
  if (!names.insert(tensor.name).second) fault = "the name stands twice";
  if (tensor.shape.size() > kGgufMostDimensions) fault = "it has too many dimensions";
  if (!stored || !fits(tensor.dtype, tensor.shape)) {
    fault = std::string(dtype_name(tensor.dtype)) + " cannot hold the shape " + shape_text(tensor.shape);
  }
  if (!gguf_number(tensor.dtype)) fault = std::string("the format has no type ") + dtype_name(tensor.dtype);
  if (size > 0 && !tensor.numbers && tensor.stored == nullptr) fault = "it has no numbers";
  if (!fault.empty()) refuse_to_write(fault, where);
  return size;
}

void write(std::ostream& out, const std::byte* bytes, uint64_t size) {
  out.write(reinterpret_cast<const char*>(bytes), static_cast<std::streamsize>(size));
}

void write_numbers(std::ostream& out, const GgufTensor& tensor, std::vector<float>& room, const std::string& file) {
  room.resize(static_cast<size_t>(*element_count(tensor.shape)));
  tensor.numbers(room);
  std::vector<std::byte> piece;
  for (size_t at = 0; at < room.size(); at += kPieceNumbers) {
    const std::span<const float> numbers = std::span(room).subspan(at, std::min(kPieceNumbers, room.size() - at));
    piece.resize(*stored_size(tensor.dtype, static_cast<int64_t>(numbers.size())));
    encode(tensor.dtype, numbers, piece, file + ", tensor '" + tensor.name + "'");
    write(out, piece.data(), piece.size());
  }
}

uint64_t padding(uint64_t at, uint64_t alignment) {
  return (alignment - at % alignment) % alignment;
}

}  // namespace

std::vector<GgufValue> gguf_values(const GgufFile& file) {
  std::vector<GgufValue> values;
  for (const auto& [key, value] : file.values().items()) {
    const GgufFile::Type& type = file.type_of(key);
    if (type.type == GgufType::list && type.items == GgufType::list) {
      throw Error({.id = "format.unsupported",
                   .what = "the value of '" + key + "' is a list of lists, which is not copied",
                   .where = file.path().string(),
                   .fix = "use a GGUF file that llama.cpp's converter wrote"});
    }
    values.push_back({.key = key, .type = type.type, .value = value, .items = type.items});
  }
  return values;
}

bool fits(Dtype dtype, const std::vector<int64_t>& shape) {
  return (shape.empty() ? 1 : shape.back()) % dtype_block(dtype).numbers == 0;
}

void write_gguf(const std::filesystem::path& path, const std::vector<GgufValue>& values,
                const std::vector<GgufTensor>& tensors) {
  const std::string file = path.string();
  const uint64_t alignment = alignment_of(values, file);
  Header header(file);
  for (const GgufValue& value : values) header.add(value);
  std::set<std::string> names;
  std::vector<uint64_t> sizes;
  uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors) {
    sizes.push_back(checked_size(tensor, names, file));
    header.add(tensor, offset);
    offset += sizes.back() + padding(sizes.back(), alignment);
  }
  write_file(path, [&](std::ostream& out) {
    std::string head(kGgufMagic);
    put(head, kVersion);
    put<uint64_t>(head, tensors.size());
    put<uint64_t>(head, values.size());
    head += header.bytes();
    if (!tensors.empty()) head.append(padding(head.size(), alignment), '\0');
    out << head;
    std::vector<float> room;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (sizes[i] > 0 && tensors[i].stored != nullptr) {
        write(out, tensors[i].stored, sizes[i]);
      } else if (sizes[i] > 0) {
        write_numbers(out, tensors[i], room, file);
      }
      out << std::string(padding(sizes[i], alignment), '\0');
    }
  });
}

}  // namespace deltaw::io

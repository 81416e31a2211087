#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/other_kind.h"
#include "deltaw/error.h"

namespace deltaw::io {
namespace {

constexpr uint32_t kOldest = 2, kNewest = 3;
constexpr size_t kLongestKey = 65535;            // as the format has it
constexpr size_t kLongestName = 255;             // ggml's own limit is 63
constexpr size_t kDeepestList = 8;               // lists in lists
constexpr size_t kMostValues = size_t{1} << 25;  // list members together; vocabularies have a million
constexpr uint64_t kLargestAlignment = 1 << 16;
constexpr size_t kLeastEntry = 8 + 1 + 4 + 1;  // bytes of a value with its key
constexpr size_t kLeastTensor = 8 + 1 + 4 + 4 + 8;

struct TensorType {
  uint32_t number;
  const char* name;
  std::optional<Dtype> dtype;  // nothing: known, but not decoded here
};

constexpr TensorType kTensorTypes[] = {
    {0, "F32", Dtype::f32},    {1, "F16", Dtype::f16},    {2, "Q4_0", Dtype::q4_0},  {3, "Q4_1", Dtype::q4_1},
    {4, "Q4_2", std::nullopt}, {5, "Q4_3", std::nullopt}, {6, "Q5_0", Dtype::q5_0},  {7, "Q5_1", Dtype::q5_1},
    {8, "Q8_0", Dtype::q8_0},  {9, "Q8_1", std::nullopt}, {10, "Q2_K", Dtype::q2_k}, {11, "Q3_K", Dtype::q3_k},
    {12, "Q4_K", Dtype::q4_k}, {13, "Q5_K", Dtype::q5_k}, {14, "Q6_K", Dtype::q6_k}, {15, "Q8_K", std::nullopt},
    {16, "IQ2_XXS", {}},       {17, "IQ2_XS", {}},        {18, "IQ3_XXS", {}},       {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},        {21, "IQ3_S", {}},         {22, "IQ2_S", {}},         {23, "IQ4_XS", {}},
    {24, "I8", Dtype::i8},     {25, "I16", Dtype::i16},   {26, "I32", Dtype::i32},   {27, "I64", Dtype::i64},
    {28, "F64", Dtype::f64},   {29, "IQ1_M", {}},         {30, "BF16", Dtype::bf16}, {31, "Q4_0_4_4", {}},
    {32, "Q4_0_4_8", {}},      {33, "Q4_0_8_8", {}},      {34, "TQ1_0", {}},         {35, "TQ2_0", {}},
    {36, "IQ4_NL_4_4", {}},    {37, "IQ4_NL_4_8", {}},    {38, "IQ4_NL_8_8", {}},    {39, "MXFP4", {}},
    {40, "NVFP4", {}},         {41, "Q1_0", {}},
};

constexpr const char* kDamaged = "the file is damaged or was made by a faulty tool; fetch it again";
constexpr const char* kCut = "the file was cut short; fetch it again";
constexpr const char* kAnew =
    "convert the model again with a current llama.cpp (convert_hf_to_gguf.py), or fetch a newer file of it";

[[noreturn]] void refuse(const char* id, const std::string& what, const std::string& where,
                         const std::string& fix = kDamaged) {
  throw Error({.id = id, .what = what, .where = where, .fix = fix});
}

/// A name of the file, short enough for a message.
std::string brief(std::string_view name) {
  constexpr size_t kShown = 80;
  return std::string(name.substr(0, kShown)) + (name.size() > kShown ? "..." : "");
}

/// Takes one thing of the file after the other; what is not there is refused with the bytes that are missing.
class Cursor {
 public:
  Cursor(std::string_view bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  const std::string& file() const { return file_; }
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  std::string_view take(uint64_t size, const std::string& what) {
    if (size > left()) {
      refuse("format.truncated",
             fmt::format("{} takes {} bytes from byte {} on, of which {} are missing", what, size, at_, size - left()),
             file_, kCut);
    }
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }

  template <class Number>
  Number number(const std::string& what) {
    Number value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  /// How many there are of something that takes `least` bytes each.
  uint64_t count(size_t least, const std::string& what) {
    const auto count = number<uint64_t>(what);
    if (count <= left() / least) return count;
    refuse(
        "format.truncated",
        fmt::format("{} is {}, which takes {} bytes each at least; the file has {} left", what, count, least, left()),
        file_, kCut);
  }

  std::string_view text(size_t longest, const std::string& what) {
    const auto length = number<uint64_t>(what);
    if (length > longest && length <= left()) {
      refuse("format.gguf", fmt::format("{} has {} bytes, the limit is {}", what, length, longest), file_);
    }
    const uint64_t start = at_;
    const std::string_view text = take(length, what);
    if (is_utf8(text)) return text;
    refuse("format.gguf", fmt::format("{}, at byte {}, is not UTF-8", what, start), file_);
  }

  std::string_view name(size_t longest, const std::string& what) {
    const std::string_view name = text(longest, what);
    if (name.empty()) refuse("format.gguf", what + " is empty", file_);
    return name;
  }

 private:
  std::string_view bytes_;
  std::string file_;
  uint64_t at_ = 0;
};

GgufType checked_type(Cursor& cursor, const std::string& what) {
  const auto number = cursor.number<uint32_t>(what);
  if (number <= static_cast<uint32_t>(GgufType::f64)) return static_cast<GgufType>(number);
  refuse("format.gguf", fmt::format("{} is {}; the format has 0 to 12", what, number), cursor.file());
}

/// Bytes of a value of that type; of a text or a list, the least.
size_t least_size(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::list:
      return 12;
    default:
      return 8;
  }
}

class ValueReader {
 public:
  explicit ValueReader(Cursor& cursor) : cursor_(cursor) {}

  Json value(GgufType type, const std::string& what, GgufType* items, size_t depth = 0) {
    switch (type) {
      case GgufType::u8:
        return cursor_.number<uint8_t>(what);
      case GgufType::i8:
        return cursor_.number<int8_t>(what);
      case GgufType::u16:
        return cursor_.number<uint16_t>(what);
      case GgufType::i16:
        return cursor_.number<int16_t>(what);
      case GgufType::u32:
        return cursor_.number<uint32_t>(what);
      case GgufType::i32:
        return cursor_.number<int32_t>(what);
      case GgufType::f32:
        return cursor_.number<float>(what);
      case GgufType::u64:
        return cursor_.number<uint64_t>(what);
      case GgufType::i64:
        return cursor_.number<int64_t>(what);
      case GgufType::f64:
        return cursor_.number<double>(what);
      case GgufType::text:
        return std::string(cursor_.text(SIZE_MAX, what));
      case GgufType::list:
        return list(what, items, depth);
      case GgufType::boolean:
        break;
    }
    const auto flag = cursor_.number<uint8_t>(what);
    if (flag > 1) refuse("format.gguf", fmt::format("{} is {}, not true (1) or false (0)", what, flag), cursor_.file());
    return flag == 1;
  }

 private:
  Json list(const std::string& what, GgufType* items, size_t depth) {
    if (depth == kDeepestList) {
      refuse("format.gguf", fmt::format("{} holds lists in lists, more than {} deep", what, kDeepestList),
             cursor_.file());
    }
    const GgufType type = checked_type(cursor_, "the type of the members of " + what);
    if (items != nullptr) *items = type;
    const uint64_t count = cursor_.count(least_size(type), "the number of members of " + what);
    values_ += count;
    if (values_ > kMostValues) {
      refuse("format.gguf", fmt::format("its lists have more than {} members, up to {}", kMostValues, what),
             cursor_.file());
    }
    const std::string member = "a member of " + what;
    Json::array_t members;
    members.reserve(count);
    for (uint64_t i = 0; i < count; ++i) members.push_back(value(type, member, nullptr, depth + 1));
    return members;
  }

  Cursor& cursor_;
  uint64_t values_ = 0;
};

struct Entry {
  TensorBytes tensor;
  uint64_t begin = 0, end = 0;  // in the data
};

Dtype checked_dtype(uint32_t number, const std::string& where) {
  std::string known;
  for (const TensorType& type : kTensorTypes) {
    if (type.dtype && type.number == number) return *type.dtype;
    if (type.dtype) known += std::string(known.empty() ? "" : ", ") + type.name;
  }
  const std::string fix = "use a file of the model in one of " + known +
                          "; llama-quantize --allow-requantize IN.gguf OUT.gguf Q8_0 makes one of this file";
  for (const TensorType& type : kTensorTypes) {
    if (type.number == number)
      refuse("format.dtype", fmt::format("the type {} is not supported", type.name), where, fix);
  }
  refuse("format.dtype", fmt::format("the type with the number {} is unknown", number), where, fix);
}

std::vector<int64_t> checked_shape(Cursor& cursor, const std::string& what, const std::string& where) {
  const auto dimensions = cursor.number<uint32_t>("the number of dimensions of " + what);
  if (dimensions > kGgufMostDimensions) {
    refuse("format.shape", fmt::format("it has {} dimensions, the limit is {}", dimensions, kGgufMostDimensions),
           where);
  }
  std::vector<int64_t> shape(dimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = cursor.number<uint64_t>("a dimension of " + what);
    if (size > static_cast<uint64_t>(INT64_MAX)) {
      refuse("format.shape", fmt::format("a dimension is {}, which is no size", size), where);
    }
    shape[dimensions - 1 - i] = static_cast<int64_t>(size);
  }
  return shape;
}

uint64_t checked_size(const TensorBytes& tensor, const std::string& where) {
  const auto count = element_count(tensor.shape);
  const DtypeBlock block = dtype_block(tensor.dtype);
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % block.numbers != 0) {
    refuse("format.shape",
           fmt::format("its rows have {} numbers, {} has blocks of {}", row, dtype_name(tensor.dtype), block.numbers),
           where);
  }
  const auto size = count ? stored_size(tensor.dtype, *count) : std::nullopt;
  if (size && *size <= static_cast<uint64_t>(INT64_MAX)) return *size;
  refuse("format.shape", "the shape " + shape_text(tensor.shape) + " has more elements than can be counted", where);
}

Entry read_tensor(Cursor& cursor, uint64_t alignment) {
  Entry entry;
  entry.tensor.name = cursor.name(kLongestName, "the name of a tensor");
  const std::string what = "tensor '" + brief(entry.tensor.name) + "'", where = cursor.file() + ", " + what;
  entry.tensor.shape = checked_shape(cursor, what, where);
  entry.tensor.dtype = checked_dtype(cursor.number<uint32_t>("the type of " + what), where);
  const uint64_t size = checked_size(entry.tensor, where);
  entry.begin = cursor.number<uint64_t>("the offset of " + what);
  if (entry.begin % alignment != 0) {
    refuse("format.offsets", fmt::format("its offset {} is no multiple of {}", entry.begin, alignment), where);
  }
  const bool counted = !__builtin_add_overflow(entry.begin, size, &entry.end);
  if (counted && entry.end <= static_cast<uint64_t>(INT64_MAX)) return entry;
  refuse("format.offsets", fmt::format("it takes {} bytes from byte {} on, past any file", size, entry.begin), where);
}

uint64_t aligned(uint64_t at, uint64_t alignment) {
  return (at + alignment - 1) / alignment * alignment;
}

/// The tensors, in the order of their bytes, must cover the file from `start` on but for what aligns them.
void check_cover(const std::vector<Entry>& entries, uint64_t start, uint64_t size, uint64_t alignment,
                 const std::string& file) {
  const uint64_t data = size > start ? size - start : 0;
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    const std::string where = file + ", tensor '" + brief(entry.tensor.name) + "'";
    if (entry.begin < covered || entry.begin - covered >= alignment) {
      refuse("format.offsets",
             fmt::format("the data begins at byte {}, which {} the tensor before it, that ends at {}", entry.begin,
                         entry.begin < covered ? "overlaps" : "leaves a gap after", covered),
             where);
    }
    covered = entry.end;
  }
  if (covered > data) {
    const auto first = std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.end > data; });
    refuse("format.truncated",
           fmt::format("the file has {} bytes and should have {}: {} are missing", size, start + covered,
                       start + covered - size),
           file + ", tensor '" + brief(first->tensor.name) + "'", kCut);
  }
  if (data - covered < alignment) return;
  refuse("format.offsets", fmt::format("the tensors take {} bytes, the file holds {} for them", covered, data), file);
}

uint64_t alignment_of(const Json& values, const std::map<std::string, GgufFile::Type>& types, const std::string& file) {
  static const std::string kKey = "general.alignment";
  const auto found = values.find(kKey);
  if (found == values.end()) return kGgufAlignment;
  const bool number = types.at(kKey).type == GgufType::u32;
  const uint64_t alignment = number ? found->get<uint64_t>() : 0;
  if (std::has_single_bit(alignment) && alignment <= kLargestAlignment) return alignment;
  refuse("format.gguf",
         number ? fmt::format("the alignment {} is no power of two up to {}", alignment, kLargestAlignment)
                : "the alignment is no number of the type u32",
         file + ", key '" + kKey + "'");
}

/// Parts are named NAME-00001-of-00003.gguf.
std::string first_part(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  const size_t of = name.rfind("-of-");
  if (of == std::string::npos || of < 6) return "the first part";
  return name.substr(0, of - 5) + "00001" + name.substr(of);
}

void refuse_part(const Json& values, const std::filesystem::path& path) {
  const auto count = values.find("split.count");
  if (count == values.end() || !count->is_number_integer() || count->get<int64_t>() <= 1) return;
  const auto number = values.find("split.no");
  const bool known = number != values.end() && number->is_number_integer();
  refuse("format.split",
         fmt::format("this is part {}of {} of a model that was split into several files",
                     known ? std::to_string(number->get<uint64_t>() + 1) + " " : "", count->get<int64_t>()),
         path.string(),
         fmt::format("merge the parts first: llama-gguf-split --merge {} merged.gguf", first_part(path)));
}

/// After the magic and the version.
void check_head(Cursor& cursor, std::string_view bytes) {
  const std::string& file = cursor.file();
  if (!bytes.starts_with(kGgufMagic)) {
    const std::string kind = other_kind(bytes);
    if (!kind.empty()) refuse("format.gguf", kind, file, kFetch);
    for (const char* old : {"lmgg", "tjgg", "fmgg", "algg"}) {
      if (bytes.starts_with(old)) refuse("format.gguf", "this is a file of ggml from before GGUF", file, kAnew);
    }
    refuse("format.gguf", bytes.empty() ? "the file is empty" : "the file does not begin with the letters GGUF", file,
           "this is no GGUF file, or it is damaged; fetch it again");
  }
  cursor.take(kGgufMagic.size(), "the magic");
  const auto version = cursor.number<uint32_t>("the version");
  if (version >= kOldest && version <= kNewest) return;
  if (version != 0 && (version & 0xFFFF) == 0) {
    refuse("format.gguf", "its numbers are big endian; only little-endian files are read", file,
           "fetch the little-endian file of the model, or convert it: gguf-convert-endian FILE little");
  }
  refuse("format.gguf", fmt::format("version {} of the format; versions {} and {} are read", version, kOldest, kNewest),
         file, version > kNewest ? "use a file of version 3" : kAnew);
}

}  // namespace

std::optional<uint32_t> gguf_number(Dtype dtype) {
  for (const TensorType& type : kTensorTypes) {
    if (type.dtype == dtype) return type.number;
  }
  return std::nullopt;
}

GgufFile::GgufFile(const std::filesystem::path& path) : TensorFile(path) {
  Cursor cursor(bytes(), path.string());
  check_head(cursor, bytes());
  const uint64_t tensors = cursor.count(kLeastTensor, "the number of tensors");
  const uint64_t values = cursor.count(kLeastEntry, "the number of values");

  auto contents = std::make_shared<Contents>();
  auto& members = contents->values.get_ref<Json::object_t&>();
  members.reserve(std::min<uint64_t>(values, 4096));  // growing copies
  ValueReader reader(cursor);
  for (uint64_t i = 0; i < values; ++i) {
    const std::string key(cursor.name(kLongestKey, "a key"));
    const std::string what = "the value of '" + brief(key) + "'";
    Type type{.type = checked_type(cursor, "the type of " + what)};
    Json value = reader.value(type.type, what, &type.items);
    if (!contents->types.emplace(key, type).second) {
      refuse("format.gguf", "the key '" + brief(key) + "' stands twice", path.string());
    }
    if (value.is_string()) metadata_[key] = value.get_ref<const std::string&>();
    members.emplace_back(key, std::move(value));
  }
  refuse_part(contents->values, path);

  const uint64_t alignment = alignment_of(contents->values, contents->types, path.string());
  std::vector<Entry> entries;
  std::set<std::string> names;
  for (uint64_t i = 0; i < tensors; ++i) {
    entries.push_back(read_tensor(cursor, alignment));
    const std::string& name = entries.back().tensor.name;
    if (!names.insert(name).second)
      refuse("format.gguf", "the tensor '" + brief(name) + "' stands twice", path.string());
  }
  const uint64_t start = entries.empty() ? cursor.at() : aligned(cursor.at(), alignment);
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_cover(entries, start, bytes().size(), alignment, path.string());
  for (Entry& entry : entries) {
    entry.tensor.data = reinterpret_cast<const std::byte*>(bytes().data()) + start + entry.begin;
    add(std::move(entry.tensor));
  }
  contents_ = std::move(contents);
}

const Json* GgufFile::find_value(const std::string& key) const {
  const auto found = values().find(key);
  return found == values().end() ? nullptr : &*found;
}

bool is_gguf(const std::filesystem::path& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) return false;
  if (path.extension() == ".gguf") return true;
  char magic[4] = {};
  return std::ifstream(path, std::ios::binary).read(magic, sizeof magic) && std::string_view(magic, 4) == kGgufMagic;
}

}  // namespace deltaw::io

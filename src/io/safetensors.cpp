#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "core/files.h"
#include "core/json.h"
#include "core/other_kind.h"
#include "deltaw/error.h"

namespace deltaw::io {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the format's own reader
constexpr size_t kLengthBytes = 8;
constexpr size_t kMostDimensions = 64;  // as torch has it

// Types of the format that no part of this library computes with.
constexpr const char* kOtherDtypes[] = {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4",
                                        "F6_E2M3", "F6_E3M2", "U16",     "U32",         "U64",         "C64"};

[[noreturn]] void refuse(const std::string& id, const std::string& what, const std::string& where,
                         const std::string& fix = "the file is damaged or was made by a faulty tool; fetch it again") {
  throw Error({.id = "format." + id, .what = what, .where = where, .fix = fix});
}

/// One tensor of the header with its place in the data.
struct Entry {
  TensorBytes tensor;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class HeaderReader {
 public:
  HeaderReader(std::string file, uint64_t data_size) : file_(std::move(file)), data_size_(data_size) {}

  Entry entry(const std::string& name, const Json& value) const {
    const std::string where = file_ + ", tensor '" + name + "'";
    if (!value.is_object()) refuse("header", std::string("the entry is no object but a ") + value.type_name(), where);
    Entry entry;
    entry.tensor.name = name;
    entry.tensor.dtype = dtype(member(value, "dtype", where), where);
    entry.tensor.shape = shape(member(value, "shape", where), where);
    const auto count = element_count(entry.tensor.shape);
    uint64_t size = 0;
    if (!count || __builtin_mul_overflow(static_cast<uint64_t>(*count), dtype_size(entry.tensor.dtype), &size)) {
      refuse("shape", "the shape " + shape_text(entry.tensor.shape) + " has more elements than can be counted", where);
    }
    offsets(member(value, "data_offsets", where), entry, where);
    if (entry.end - entry.begin == size) return entry;
    refuse("offsets",
           "the shape " + shape_text(entry.tensor.shape) + " of " + dtype_name(entry.tensor.dtype) + " takes " +
               std::to_string(size) + " bytes, the offsets [" + std::to_string(entry.begin) + ", " +
               std::to_string(entry.end) + "] hold " + std::to_string(entry.end - entry.begin),
           where);
  }

  std::map<std::string, std::string> metadata(const Json& value) const {
    const std::string where = file_ + ", __metadata__";
    if (value.is_null()) return {};  // as the library of safetensors reads it
    if (!value.is_object()) refuse("metadata", std::string("it is no object but a ") + value.type_name(), where);
    std::map<std::string, std::string> metadata;
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) {
        refuse("metadata", "the value of '" + key + "' is no text but a " + text.type_name(), where);
      }
      metadata[key] = text.get<std::string>();
    }
    return metadata;
  }

  /// The tensors, in the order of their bytes, must cover the data without holes.
  void check_cover(const std::vector<Entry>& entries) const {
    uint64_t covered = 0;
    for (const Entry& entry : entries) {
      if (entry.begin != covered) {
        const char* fault = entry.begin > covered ? "leaves a gap after" : "overlaps";
        refuse("offsets",
               "the data begins at byte " + std::to_string(entry.begin) + ", which " + fault +
                   " the tensor before it, that ends at " + std::to_string(covered),
               file_ + ", tensor '" + entry.tensor.name + "'");
      }
      covered = entry.end;
    }
    if (covered == data_size_) return;
    refuse("offsets",
           "the tensors take " + std::to_string(covered) + " bytes, the file holds " + std::to_string(data_size_) +
               " after its header",
           file_);
  }

 private:
  static const Json& member(const Json& value, const char* key, const std::string& where) {
    const auto found = value.find(key);
    if (found == value.end()) refuse("header", std::string("the entry has no '") + key + "'", where);
    return *found;
  }

  static Dtype dtype(const Json& value, const std::string& where) {
    if (!value.is_string()) refuse("dtype", std::string("'dtype' is no text but a ") + value.type_name(), where);
    const auto& name = value.get_ref<const std::string&>();
    const auto known = dtype_named(name);
    if (known && !is_block_type(*known)) return *known;
    for (const char* other : kOtherDtypes) {
      if (name != other) continue;
      refuse("dtype", "the element type " + name + " is not supported", where,
             "use a checkpoint in F32, F16 or BF16; one in " + name + " must be converted first");
    }
    refuse("dtype", "the element type '" + name.substr(0, 40) + "' is unknown", where);
  }

  static std::vector<int64_t> shape(const Json& value, const std::string& where) {
    if (!value.is_array()) refuse("shape", std::string("'shape' is no list but a ") + value.type_name(), where);
    if (value.size() > kMostDimensions) {
      refuse("shape", "'shape' has " + std::to_string(value.size()) + " dimensions, the limit is 64", where);
    }
    std::vector<int64_t> shape;
    for (const Json& size : value) {
      // Numbers without a sign are unsigned to the parser.
      if (!size.is_number_unsigned() || size.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
        refuse("shape", "'shape' holds " + size.dump(-1, ' ', true).substr(0, 40) + ", which is no size", where);
      }
      shape.push_back(size.get<int64_t>());
    }
    return shape;
  }

  void offsets(const Json& value, Entry& entry, const std::string& where) const {
    const bool pair =
        value.is_array() && value.size() == 2 && value[0].is_number_unsigned() && value[1].is_number_unsigned();
    if (!pair) {
      refuse("offsets", "'data_offsets' is " + value.dump(-1, ' ', true).substr(0, 40) + ", not two offsets", where);
    }
    entry.begin = value[0].get<uint64_t>();
    entry.end = value[1].get<uint64_t>();
    const std::string text = "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
    if (entry.begin > entry.end) refuse("offsets", "the offsets " + text + " run backwards", where);
    if (entry.end <= data_size_) return;
    refuse("offsets",
           "the offsets " + text + " run past the end of the data, which has " + std::to_string(data_size_) + " bytes",
           where, "the file was cut short or damaged; fetch it again");
  }

  std::string file_;
  uint64_t data_size_;
};

std::string_view checked_header(std::string_view bytes, const std::string& file) {
  const std::string kind = other_kind(bytes);
  if (bytes.starts_with("PK\x03\x04")) {
    refuse("not-safetensors", "this is a zip archive, as torch.save writes", file,
           "let its name end in .bin, with which files of torch.save are read");
  }
  if (!kind.empty()) refuse("not-safetensors", kind, file, kFetch);
  if (bytes.size() < kLengthBytes) {
    refuse("truncated", "the file has " + std::to_string(bytes.size()) + " bytes, the header's length alone takes 8",
           file, "the file was cut short; fetch it again");
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeader) {
    refuse("header-length", "the header claims " + std::to_string(length) + " bytes, the limit is 100000000", file,
           "this is no safetensors file, or it is damaged; fetch it again");
  }
  if (length > bytes.size() - kLengthBytes) {
    refuse("truncated",
           "the header claims " + std::to_string(length) + " bytes, the file has " +
               std::to_string(bytes.size() - kLengthBytes) + " after the length",
           file, "the file was cut short; fetch it again");
  }
  const std::string_view header = bytes.substr(kLengthBytes, length);
  if (!header.starts_with('{')) refuse("header", "the header does not begin with '{'", file);
  return header;
}

std::string header_text(const std::vector<TensorBytes>& tensors, const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) header += "\"__metadata__\":" + Json(metadata).dump();
  uint64_t offset = 0;
  for (const TensorBytes& tensor : tensors) {
    if (header.size() > 1) header += ',';
    const uint64_t end = offset + tensor.size();
    header += Json(tensor.name).dump() + ":{\"dtype\":\"" + dtype_name(tensor.dtype) +
              "\",\"shape\":" + Json(tensor.shape).dump() + ",\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(end) + "]}";
    offset = end;
  }
  header += '}';
  header.append((kLengthBytes - header.size() % kLengthBytes) % kLengthBytes, ' ');
  return header;
}

void check_writable(const std::vector<TensorBytes>& tensors, const std::string& file) {
  std::set<std::string_view> names;
  for (const TensorBytes& tensor : tensors) {
    std::string fault;
    if (tensor.name == "__metadata__") fault = "the name is the format's own";
    if (!names.insert(tensor.name).second) fault = "the name stands twice";
    if (!element_count(tensor.shape)) fault = "the shape " + shape_text(tensor.shape) + " cannot be";
    if (!is_utf8(tensor.name)) fault = "the name is not UTF-8";
    if (!tensor.is_plain()) fault = std::string("its ") + dtype_name(tensor.dtype) + " numbers must be decoded first";
    if (fault.empty() && tensor.size() > 0 && tensor.data == nullptr) fault = "it has no data";
    if (fault.empty()) continue;
    throw Error({.id = "internal.tensor",
                 .what = "cannot write the tensor '" + tensor.name + "': " + fault,
                 .where = file,
                 .fix = "report this as a bug"});
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : TensorFile(path) {
  const std::string file = path.string();
  const std::string_view header = checked_header(bytes(), file);
  const std::string_view data = bytes().substr(kLengthBytes + header.size());
  const Json json = parse_json(header, file + ", header", DuplicateKeys::refuse);

  const HeaderReader reader(file, data.size());
  std::vector<Entry> entries;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__")
      metadata_ = reader.metadata(value);
    else
      entries.push_back(reader.entry(name, value));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  reader.check_cover(entries);
  for (Entry& entry : entries) {
    entry.tensor.data = reinterpret_cast<const std::byte*>(data.data()) + entry.begin;
    add(std::move(entry.tensor));
  }
}

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorBytes>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_writable(tensors, path.string());
  const std::string header = header_text(tensors, metadata);
  const uint64_t length = header.size();
  write_file(path, [&](std::ostream& out) {
    out.write(reinterpret_cast<const char*>(&length), kLengthBytes);
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    for (const TensorBytes& tensor : tensors) {
      out.write(reinterpret_cast<const char*>(tensor.data), static_cast<std::streamsize>(tensor.size()));
    }
  });
}

}  // namespace deltaw::io

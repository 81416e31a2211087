#include "io/torch_file.h"

#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "core/other_kind.h"
#include "deltaw/error.h"
#include "io/pickle.h"

namespace deltaw::io {
namespace {

constexpr const char* kFetchAgain =
    "the file is damaged or no file of torch.save; fetch it again, or take the safetensors file";

[[noreturn]] void refuse_file(const std::string& what, const std::string& where, const std::string& fix = kFetchAgain) {
  throw Error({.id = "format.torch-file", .what = what, .where = where, .fix = fix});
}

[[noreturn]] void refuse_archive(const std::string& what, const std::string& where) {
  refuse_file("a zip archive that torch.save did not write: " + what, where,
              "unpack it, and name the folder that holds what was packed");
}

constexpr size_t kMostCopied = 4;

// Bytes of a storage, wherever they lie.
using Storages = std::map<std::string, std::string_view>;

// Little-endian numbers at places that a file names.
class Bytes {
 public:
  Bytes(std::string_view all, const std::string& where) : all_(all), where_(where) {}

  std::string_view at(uint64_t place, uint64_t size) const {
    if (place > all_.size() || size > all_.size() - place) refuse_file("the archive points beyond its end", where_);
    return all_.substr(place, size);
  }
  template <class T>
  T number(uint64_t place) const {
    T value;
    std::memcpy(&value, at(place, sizeof value).data(), sizeof value);
    return value;
  }
  uint64_t size() const { return all_.size(); }

 private:
  std::string_view all_;
  const std::string& where_;
};

struct Directory {
  uint64_t place = 0;
  uint64_t entries = 0;
};

// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.14 to 4.3.16.
Directory directory_of(const Bytes& file, const std::string& where) {
  constexpr uint64_t kEnd = 22, kLocator = 20, kLongestComment = 65535;
  uint64_t place = file.size() < kEnd ? 0 : file.size() - kEnd;
  const uint64_t least = place > kLongestComment ? place - kLongestComment : 0;
  while (place > least && file.number<uint32_t>(place) != 0x06054b50) --place;
  if (file.size() < kEnd || file.number<uint32_t>(place) != 0x06054b50) refuse_file("the archive is cut short", where);
  if (place >= kLocator && file.number<uint32_t>(place - kLocator) == 0x07064b50) {
    const auto large = file.number<uint64_t>(place - kLocator + 8);
    if (file.number<uint32_t>(large) != 0x06064b50) refuse_file("the archive's directory is damaged", where);
    return {file.number<uint64_t>(large + 48), file.number<uint64_t>(large + 32)};
  }
  return {file.number<uint32_t>(place + 16), file.number<uint16_t>(place + 10)};
}

// Files of an archive by name (section 4.3.12). torch.save compresses nothing.
std::map<std::string, std::string_view> entries_of(std::string_view all, const std::string& where) {
  constexpr uint64_t kCentral = 46, kLocal = 30;
  constexpr uint32_t kIsLarge = 0xFFFFFFFF;
  const Bytes file(all, where);
  const Directory directory = directory_of(file, where);
  std::map<std::string, std::string_view> entries;
  uint64_t place = directory.place;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (file.number<uint32_t>(place) != 0x02014b50) refuse_file("the archive's directory is damaged", where);
    const uint64_t name_size = file.number<uint16_t>(place + 28), extra_size = file.number<uint16_t>(place + 30);
    const std::string name(file.at(place + kCentral, name_size));
    uint64_t packed = file.number<uint32_t>(place + 20), size = file.number<uint32_t>(place + 24);
    uint64_t header = file.number<uint32_t>(place + 42);
    const uint64_t extras = place + kCentral + name_size;
    for (uint64_t extra = extras; extra + 4 <= extras + extra_size;) {
      uint64_t value = extra + 4;
      if (file.number<uint16_t>(extra) == 1) {  // the large ones, in this order
        for (uint64_t* field : {&size, &packed, &header}) {
          if (*field != kIsLarge) continue;
          *field = file.number<uint64_t>(value);
          value += 8;
        }
      }
      extra += 4 + file.number<uint16_t>(extra + 2);
    }
    if (file.number<uint16_t>(place + 10) != 0 || packed != size) {
      refuse_archive("'" + name + "' is compressed", where);
    }
    if (file.number<uint32_t>(header) != 0x04034b50) refuse_file("the header of '" + name + "' is damaged", where);
    const uint64_t data = header + kLocal + file.number<uint16_t>(header + 26) + file.number<uint16_t>(header + 28);
    entries[name] = file.at(data, size);
    place = extras + extra_size + file.number<uint16_t>(place + 32);
  }
  return entries;
}

struct Contents {
  std::vector<PickledTensor> tensors;
  std::vector<PickledStorage> storages;
  std::vector<std::string_view> data;  // of each storage
};

Contents archive(std::string_view all, const std::string& where) {
  const auto entries = entries_of(all, where);
  std::string root;
  for (const auto& [name, bytes] : entries) {
    if (name.ends_with("/data.pkl")) root = name.substr(0, name.size() - 8);
  }
  if (root.empty()) refuse_archive("it holds no data.pkl", where);
  const auto order = entries.find(root + "byteorder");
  if (order != entries.end() && order->second != "little") refuse_file("its numbers are not little endian", where);
  PickleReader pickle(entries.at(root + "data.pkl"), where);
  Contents contents{.tensors = pickle.read_tensors(), .storages = pickle.storages()};
  for (const PickledStorage& storage : contents.storages) {
    const auto entry = entries.find(root + "data/" + storage.key);
    if (entry == entries.end()) refuse_file("the storage '" + storage.key + "' is missing", where);
    contents.data.push_back(entry->second);
  }
  return contents;
}

// Before torch 1.6: a magic number, a version, the machine's sizes, the tensors and the keys of their storages, each a
// pickle; then for every key the number of elements and the elements.
constexpr std::string_view kMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", 15);

Contents legacy(std::string_view all, const std::string& where) {
  const Bytes file(all, where);
  PickleReader pickle(all, where);
  for (int i = 0; i < 3; ++i) pickle.skip();
  Contents contents{.tensors = pickle.read_tensors(), .storages = pickle.storages()};
  contents.data.resize(contents.storages.size());
  const std::vector<std::string> keys = pickle.read_texts();
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < contents.storages.size(); ++i) places[contents.storages[i].key] = i;
  uint64_t place = pickle.position();
  for (const std::string& key : keys) {
    const auto found = places.find(key);
    if (found == places.end()) refuse_file("nothing uses the storage '" + key + "'", where);
    const PickledStorage& storage = contents.storages[found->second];
    const auto count = file.number<uint64_t>(place);
    if (count != static_cast<uint64_t>(storage.count)) refuse_file("the storage '" + key + "' has another size", where);
    if (count > all.size()) refuse_file("the file is cut short", where);
    const uint64_t size = count * dtype_size(storage.dtype);
    contents.data[found->second] = file.at(place + 8, size);
    place += 8 + size;
  }
  return contents;
}

std::vector<int64_t> strides_in_order(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t next = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = next;
    next *= shape[i];
  }
  return strides;
}

bool in_order(const PickledTensor& tensor) {
  const std::vector<int64_t> strides = strides_in_order(tensor.shape);
  for (size_t i = 0; i < strides.size(); ++i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != strides[i]) return false;
  }
  return true;
}

// Elements one by one, the last index running fastest.
void gather(const PickledTensor& tensor, const std::byte* from, size_t width, std::byte* to) {
  std::vector<int64_t> index(tensor.shape.size());
  while (true) {
    int64_t place = 0;
    for (size_t i = 0; i < index.size(); ++i) place += index[i] * tensor.strides[i];
    std::memcpy(to, from + static_cast<size_t>(place) * width, width);
    to += width;
    size_t i = index.size();
    while (i > 0 && ++index[i - 1] == tensor.shape[i - 1]) index[--i] = 0;
    if (i == 0) return;
  }
}

// One behind the last element that the tensor reads of its storage; nothing where that cannot be counted.
std::optional<int64_t> reach(const PickledTensor& tensor) {
  int64_t last = tensor.offset, step = 0;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &step) ||
        __builtin_add_overflow(last, step, &last))
      return std::nullopt;
  }
  return __builtin_add_overflow(last, 1, &last) ? std::nullopt : std::optional(last);
}

}  // namespace

TorchFile::TorchFile(const std::filesystem::path& path) : TensorFile(path) {
  const std::string where = path.string();
  if (const std::string kind = other_kind(bytes()); !kind.empty()) refuse_file(kind, where, kFetch);
  if (bytes().size() > 8 && bytes()[8] == '{') {
    refuse_file("this is a safetensors file under another name", where, "let its name end in .safetensors");
  }
  const bool zip = bytes().starts_with("PK\x03\x04");
  if (!zip && !bytes().starts_with(kMagic)) refuse_file("the file does not begin as those of torch.save do", where);
  const Contents contents = zip ? archive(bytes(), where) : legacy(bytes(), where);
  size_t copied = 0;
  for (const PickledTensor& tensor : contents.tensors) {
    const PickledStorage& storage = contents.storages[tensor.storage];
    const std::string_view data = contents.data[tensor.storage];
    const size_t width = dtype_size(storage.dtype);
    const auto count = element_count(tensor.shape);
    const auto end = count == 0 ? std::optional<int64_t>(0) : reach(tensor);
    if (!count || !end || *end > storage.count || *count > storage.count ||
        data.size() / width < static_cast<size_t>(storage.count)) {
      refuse_file("the tensor '" + tensor.name + "' of the shape " + shape_text(tensor.shape) +
                      " does not fit its storage of " + std::to_string(storage.count) + " elements",
                  where);
    }
    if (find(tensor.name)) refuse_file("the tensor '" + tensor.name + "' stands twice", where);
    TensorBytes result{.name = tensor.name, .dtype = storage.dtype, .shape = tensor.shape};
    if (*count > 0) {
      const auto* first = reinterpret_cast<const std::byte*>(data.data()) + static_cast<size_t>(tensor.offset) * width;
      result.data = first;
      if (!in_order(tensor)) {
        // Views may share a storage: a small file must not ask for many copies of it.
        copied += static_cast<size_t>(*count) * width;
        if (copied > kMostCopied * bytes().size()) {
          refuse_file("its tensors share storages, and in their own order would take more than " +
                          std::to_string(kMostCopied) + " times the file's size",
                      where);
        }
        std::byte* copy = allocate(static_cast<size_t>(*count) * width);
        gather(tensor, first, width, copy);
        result.data = copy;
      }
    }
    add(std::move(result));
  }
}

}  // namespace deltaw::io

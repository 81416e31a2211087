// The safetensors format: 8 bytes of header length (little endian), a JSON header, raw little-endian data.
// https://github.com/huggingface/safetensors. Files are memory-mapped and trusted in nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace deltaw::io {

enum class Dtype { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

const char* dtype_name(Dtype dtype);  // as in the header: "F32"
size_t dtype_size(Dtype dtype);       // bytes

/// A named block of bytes with a type and a shape. `data` points into the mapped file it came from, or to memory that
/// the caller keeps alive while a file is written. The format does not align tensors: read elements in place only
/// where is_aligned(), else copy the bytes first.
struct TensorBytes {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;

  int64_t count() const;    // elements; 1 for a scalar (shape [])
  size_t size() const;      // bytes
  bool is_aligned() const;  // whether `data` stands at a multiple of the element's size
};

/// One mapped file. Throws format.* (header longer than the file, bad JSON, unknown type, offsets that overlap, leave a
/// gap, disagree with shape x type or run past the end, duplicate names) naming file, tensor and numbers, io.* when it
/// cannot be opened. Copies share the mapping. The file must not be cut short by others while it is mapped.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<TensorBytes>& tensors() const { return tensors_; }  // in file order
  const TensorBytes* find(const std::string& name) const;               // nullptr when absent
  /// Hands the pages of one of the tensors back to the system, for who has copied it; reading it again fetches them.
  void release(const TensorBytes& tensor) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  class Mapping;
  std::filesystem::path path_;
  std::shared_ptr<const Mapping> mapping_;
  std::vector<TensorBytes> tensors_;
  std::map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Writes tensors in the order given, whole or not at all (see core/files.h). PEFT expects metadata {"format": "pt"}.
/// Throws io.* as write_file does, internal.tensor for a name that stands twice or a shape that cannot be.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorBytes>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace deltaw::io

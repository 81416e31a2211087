// Files of named tensors. They are memory-mapped and trusted in nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw::io {

/// Plain numbers, then the block types of GGUF: a number of them shares its scale with those beside it.
enum class Dtype {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
};

const char* dtype_name(Dtype dtype);  // as in a safetensors header or in GGUF's list: "F32", "Q4_K"
std::optional<Dtype> dtype_named(std::string_view name);
bool is_block_type(Dtype dtype);
/// What is stored together: one plain number, or a block of them.
struct DtypeBlock {
  int64_t numbers;
  size_t bytes;
};
DtypeBlock dtype_block(Dtype dtype);
size_t dtype_size(Dtype dtype);  // bytes of a number; throws internal.dtype for a block type
/// Bytes of so many numbers, which are whole blocks; nothing where they are not, or cannot be counted.
std::optional<uint64_t> stored_size(Dtype dtype, int64_t count);

/// A named block of bytes with a type and a shape. `data` points into the mapped file it came from, or to memory that
/// the caller keeps alive while a file is written. Tensors are not aligned in files: read elements in place only where
/// is_aligned(), else copy the bytes first. Where they are not is_plain(), io/decode.h makes numbers of them.
struct TensorBytes {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  /// What turns the decoded numbers, in the order in which they are stored, into those that Hugging Face's checkpoint
  /// holds under this name and shape: a permutation of rows, an offset. Empty: nothing.
  std::function<void(std::span<float>)> undo = {};

  int64_t count() const;    // elements; 1 for a scalar (shape [])
  size_t size() const;      // stored bytes
  bool is_plain() const;    // whether the numbers lie in the file as they are: no blocks, nothing to undo
  bool is_aligned() const;  // whether `data` stands at a multiple of the element's size; false for blocks
};

/// Elements of a shape; nothing where a size is negative or the product leaves int64.
std::optional<int64_t> element_count(const std::vector<int64_t>& shape);
std::string shape_text(const std::vector<int64_t>& shape);
bool is_utf8(std::string_view text);

/// One mapped file of any of the formats. Throws io.* when it cannot be opened. Copies share the mapping. Where others
/// cut the file while it is mapped, the system sends SIGBUS to who reads what is gone (mapped_file names the file
/// then), and hands out zeros behind the new end up to a whole page: check_length after reading finds that.
class TensorFile {
 public:
  const std::filesystem::path& path() const { return path_; }
  const std::vector<TensorBytes>& tensors() const { return tensors_; }  // in file order
  const TensorBytes* find(const std::string& name) const;               // nullptr when absent
  /// Hands the pages of one of the tensors back to the system, for who has copied it; reading it again fetches them.
  void release(const TensorBytes& tensor) const;
  /// Throws io.file-cut where the file is shorter by now than when it was opened.
  void check_length() const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 protected:
  explicit TensorFile(const std::filesystem::path& path);

  std::string_view bytes() const;
  void add(TensorBytes tensor);
  /// Memory for a tensor that does not lie in the file as it is; it lives as long as the file.
  std::byte* allocate(size_t size);

  std::map<std::string, std::string> metadata_;

 private:
  class Mapping;
  std::filesystem::path path_;
  std::shared_ptr<const Mapping> mapping_;
  std::shared_ptr<std::deque<std::vector<std::byte>>> copies_;
  std::vector<TensorBytes> tensors_;
  std::map<std::string, size_t> index_;
};

/// The path of the file that is mapped at this address, fit for a terminal, or nullptr. For a handler of SIGBUS: it
/// neither locks nor allocates.
const char* mapped_file(const void* address);

/// A safetensors file, one of torch.save where the name ends with .bin, .pt or .pth, or a GGUF file (is_gguf).
TensorFile open_tensors(const std::filesystem::path& path);
/// The weights of an adapter folder: adapter_model.safetensors or, of old, adapter_model.bin.
TensorFile open_adapter(const std::filesystem::path& folder);

}  // namespace deltaw::io

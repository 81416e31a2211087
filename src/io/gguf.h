// GGUF, the file format of llama.cpp: typed values, then tensors, many of them in block types.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "deltaw/options.h"
#include "io/tensor_file.h"

namespace deltaw::io {

/// The types of values, by their number in the file.
enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, list, u64, i64, f64 };

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr int64_t kGgufAlignment = 32;  // of tensors, where general.alignment says nothing
inline constexpr size_t kGgufMostDimensions = 4;

/// The number of a tensor's type in the file; nothing for a type that GGUF does not have.
std::optional<uint32_t> gguf_number(Dtype dtype);

/// Versions 2 and 3, little endian. The shapes of tensors are row-major, as torch has them: GGUF's the other way round.
/// Throws format.gguf (no GGUF file, another version or byte order, wrong values, names that stand twice),
/// format.dtype (a type that is not decoded here, with its name), format.shape, format.offsets (tensors that overlap,
/// leave a gap or run past the end), format.truncated (with the bytes that are missing) and format.split (one part of
/// several), naming file, key or tensor and numbers.
class GgufFile : public TensorFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  /// An object of all values in the file's order; a list is an array.
  const Json& values() const { return contents_->values; }
  const Json* find_value(const std::string& key) const;  // nullptr when absent

  struct Type {
    GgufType type;
    GgufType items = GgufType::u8;  // of a list: the type of its members
  };
  const Type& type_of(const std::string& key) const { return contents_->types.at(key); }

 private:
  struct Contents {
    Json values = Json::object();
    std::map<std::string, Type> types;
  };
  std::shared_ptr<const Contents> contents_;
};

/// Whether this is a file whose name ends with .gguf, or that begins as a GGUF file does, whatever its name.
bool is_gguf(const std::filesystem::path& path);

}  // namespace deltaw::io

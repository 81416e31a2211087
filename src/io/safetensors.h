// The safetensors format: 8 bytes of header length (little endian), a JSON header, raw little-endian data.
// https://github.com/huggingface/safetensors.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/tensor_file.h"

namespace deltaw::io {

/// Throws format.* (header longer than the file, bad JSON, unknown type, offsets that overlap, leave a gap, disagree
/// with shape x type or run past the end, duplicate names) naming file, tensor and numbers.
class SafetensorsFile : public TensorFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
};

/// Writes tensors in the order given, whole or not at all (see core/files.h). PEFT expects metadata {"format": "pt"}.
/// Throws io.* as write_file does, internal.tensor for a name that stands twice or a shape that cannot be.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorBytes>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace deltaw::io

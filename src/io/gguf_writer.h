// Writes GGUF files of version 3.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "io/gguf.h"

namespace deltaw::io {

/// A value with its type in the file; of a list, that of its members too.
struct GgufValue {
  std::string key;
  GgufType type = GgufType::text;
  Json value;
  GgufType items = GgufType::text;
};

/// All values of a file, as they are there. Throws format.unsupported for lists of lists.
std::vector<GgufValue> gguf_values(const GgufFile& file);

/// A tensor to be written. Where `stored` is set, the bytes there are written as they are, in any type; else `numbers`
/// is called once, when it is this tensor's turn, and fills all numbers in the order of the shape, which are then
/// written as F32, F16, BF16 or Q8_0.
struct GgufTensor {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;  // as torch has it
  std::function<void(std::span<float>)> numbers = {};
  const std::byte* stored = nullptr;
};

/// Whether rows of that shape are whole blocks of the type.
bool fits(Dtype dtype, const std::vector<int64_t>& shape);

/// Writes values and tensors in the order given, whole or not at all (core/files.h). Beside what `numbers` needs
/// itself, one tensor at a time is in memory. llama.cpp wants general.architecture among the values. Throws io.* as
/// write_file does, numeric.non-finite naming file and tensor (io/encode.h), what `numbers` throws, and internal.gguf
/// for what the format cannot hold: values that are not of their type, names that stand twice or are longer than ggml's
/// 63 bytes, shapes that are no whole blocks.
void write_gguf(const std::filesystem::path& path, const std::vector<GgufValue>& values,
                const std::vector<GgufTensor>& tensors);

}  // namespace deltaw::io

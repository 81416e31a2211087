// What a GGUF file is to hold, before it is written.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/convert.h"
#include "deltaw/gguf.h"
#include "io/gguf_writer.h"
#include "text/convert/gguf_values.h"

namespace deltaw {

struct GgufTensorPlan {
  std::string name;
  io::Dtype dtype = io::Dtype::f32;
  std::vector<int64_t> shape;
  const io::TensorBytes* kept = nullptr;  // the base's own, byte for byte
  Tensor numbers = {};                    // else these, float32, in the order of the file
  bool changed = false;                   // by the adapter
};

struct GgufPlan {
  std::vector<io::GgufValue> values;
  std::vector<GgufTensorPlan> tensors;
  std::shared_ptr<const io::GgufFile> base;           // that `kept` points into; of a folder none
  std::optional<text::GgufTokenizer> tokenizer = {};  // of a folder, to be compared with the file's
};

/// Of `original`, with `numbers` in place of its own tensors, by their names, float32. Throws config.unsupported for
/// what a file cannot hold, and what reading a tokenizer throws.
GgufPlan gguf_plan(const Model& original, const std::map<std::string, Tensor>& numbers, const GgufOptions& options);

inline constexpr const char* kGgufFile = "model.gguf";

/// Writes model.gguf and a Modelfile. Throws config.unsupported where the file's tokenizer is not the folder's.
void write_gguf_plan(const GgufPlan& plan, const std::filesystem::path& folder);

/// What in the file is not as it was meant, or nothing.
std::string problem_of(const GgufPlan& plan, const std::filesystem::path& file);

}  // namespace deltaw

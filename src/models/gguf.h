// Models in GGUF files: what config.json and a checkpoint would say of them, and the way back for adapters.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "deltaw/gguf.h"
#include "deltaw/model.h"
#include "io/checkpoint.h"

namespace deltaw {

/// The checkpoint at a path: a Hugging Face folder, or a GGUF file, whose tensors have transformers' names and order
/// then. Throws what opening either throws, and config.unsupported for an architecture that no family has.
std::shared_ptr<const io::Checkpoint> open_checkpoint(const std::filesystem::path& path);

/// config.json of the model at a path, or what a GGUF file says in its place.
Json read_model_config(const std::filesystem::path& path);

/// Where the configuration of the model at a path stands, for messages: config.json, or the GGUF file itself.
std::filesystem::path config_file(const std::filesystem::path& path);

/// The number that was meant by one that was stored in float32: 1e-05, and not 9.999999747378752e-06.
double meant(float stored);

/// Where a module stands in GGUF files.
struct GgufPlace {
  std::string name;  // "blk.3.attn_q"
  GgufLayout layout = GgufLayout::same;
  bool wide = false;  // float32, whatever the type of the other matrices
};

/// Nothing where the model's family has no GGUF form, or that no place for the module.
std::optional<GgufPlace> gguf_place(const Model& model, const std::string& module);

/// The rows of a matrix or vector in a file's order; what turns rows of a head into neighbours, for an adapter's B too.
at::Tensor gguf_rows(const at::Tensor& rows, GgufLayout layout, const Model& model);

}  // namespace deltaw

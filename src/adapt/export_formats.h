// A plain LoRA as other programs read it.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/export.h"

namespace deltaw {

/// One of the formats that an adapter is exported to.
struct ExportForm {
  ExportFormat format;
  const char* name;         // of --to
  const char* file = "";    // that is the adapter; empty: the folder is
  bool magnitudes = false;  // it holds DoRA's, so that gains of a weight's rows need not be cut into factors
  bool companions = false;  // the task's files stand beside it
  /// Writes a plain LoRA, or one with magnitudes where the format has them. Throws config.no-export for what it cannot
  /// hold.
  void (*write)(const Adapter& lora, const std::filesystem::path& folder);
  /// What is wrong with what was written, or nothing; null where it is read back as an adapter and compared as one.
  std::string (*problem)(const Adapter& lora, const std::filesystem::path& folder) = nullptr;
};

const std::vector<ExportForm>& export_forms();
const ExportForm& export_form(ExportFormat format);

/// A [r, d_in] and B [d_out, r], which the scale is folded into, float32.
std::pair<Tensor, Tensor> scaled_factors(const AdaptedLayer& layer);

/// Throws config.no-export where the adapter holds more than factors: a head, rows of a vocabulary, biases unless the
/// format has those of factors. `what` is "an adapter of MLX".
void refuse_beside(const Adapter& lora, const std::string& what, bool has_biases = false);
[[noreturn]] void refuse_layer(const AdaptedLayer& layer, const std::string& what, const std::string& why);

/// Writes adapter.gguf, which llama.cpp puts on its base, and a Modelfile for Ollama. Layout: llama.cpp,
/// src/llama-adapter.cpp. Throws config.no-export for what such a file cannot hold.
void write_gguf(const Adapter& lora, const std::filesystem::path& folder);

/// What is wrong with the file that write_gguf wrote, or nothing.
std::string gguf_problem(const Adapter& lora, const std::filesystem::path& folder);

}  // namespace deltaw

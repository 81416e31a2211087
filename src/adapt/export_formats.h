// A plain LoRA as other programs read it.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <utility>

#include "deltaw/adapter.h"

namespace deltaw {

/// A [r, d_in] and B [d_out, r], which the scale is folded into, float32.
std::pair<Tensor, Tensor> scaled_factors(const AdaptedLayer& layer);

/// Throws config.no-export where the adapter holds more than factors: a head, biases, rows of a vocabulary. `what` is
/// "an adapter of MLX".
void refuse_beside(const Adapter& lora, const std::string& what);
[[noreturn]] void refuse_layer(const AdaptedLayer& layer, const std::string& what, const std::string& why);

/// Writes adapter.gguf, which llama.cpp puts on its base, and a Modelfile for Ollama. Layout: llama.cpp,
/// src/llama-adapter.cpp. Throws config.no-export for what such a file cannot hold.
void write_gguf(const Adapter& lora, const std::filesystem::path& folder);

/// What is wrong with the file that write_gguf wrote, or nothing.
std::string gguf_problem(const Adapter& lora, const std::filesystem::path& folder);

}  // namespace deltaw

// Adapters of MLX: adapters.safetensors and adapter_config.json, as mlx_lm.lora writes them. A layer computes
//
//   y = W0 x + scale (x lora_a) lora_b      lora_a [d_in, r]   lora_b [r, d_out]
//
// with one rank and one scale for all. Source: ml-explore/mlx-lm, mlx_lm/tuner/lora.py, dora.py and utils.py.
#pragma once

#include <filesystem>

#include "deltaw/adapter.h"
#include "io/tensor_file.h"

namespace deltaw {

/// Whether a folder holds such an adapter.
bool is_mlx(const std::filesystem::path& folder);

/// What PEFT's adapter_config.json would say of it. Throws format.bad-adapter for values that are missing or of another
/// kind, and config.no-adapter for whole weights (fine_tune_type full).
Json mlx_config(const std::filesystem::path& folder);

/// Its tensors in PEFT's names and layout. Throws what opening the file throws.
io::TensorFile mlx_tensors(const std::filesystem::path& folder);

/// Writes a plain LoRA with a scale of one into an empty folder. Layers of a lower rank than the highest are filled up
/// with zeros. Throws config.no-export for what such a file cannot hold.
void write_mlx(const Adapter& lora, const std::filesystem::path& folder);

}  // namespace deltaw

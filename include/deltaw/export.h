// Adapters for other programs.
#pragma once

#include <string>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

enum class ExportFormat {
  lora,  // PEFT's: adapter_config.json and adapter_model.safetensors
  gguf,  // llama.cpp's: adapter.gguf, with a Modelfile for Ollama
  mlx,   // MLX's: adapters.safetensors and adapter_config.json
  // Of image models:
  diffusers,  // pytorch_lora_weights.safetensors
  kohya,      // lora.safetensors, by the names of kohya's scripts, which A1111 and ComfyUI read
};

/// By these names `deltaw export --to` knows them.
std::vector<std::string> export_format_names();
/// Throws config.out-of-range for a name that is none of them.
ExportFormat export_format_named(const std::string& name);

/// export_lora() in any of the formats: the same factors, and the same check of what was written. Formats that hold
/// magnitudes take thin factors whose rows have gains (DoRA) as they are. Throws config.no-export too for what the
/// format cannot hold: a head of its own, biases, a larger vocabulary, another kind of model.
ExportReport export_adapter(const Adapter& adapter, const std::filesystem::path& output, ExportFormat format,
                            int64_t rank, const Probe& probe,
                            const std::function<void(const std::filesystem::path&)>& companions = {},
                            Combination combination = Combination::sum);

}  // namespace deltaw

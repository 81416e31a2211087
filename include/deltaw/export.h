// Adapters for other programs.
#pragma once

#include "deltaw/adapter.h"

namespace deltaw {

enum class ExportFormat {
  lora,  // PEFT's: adapter_config.json and adapter_model.safetensors
  gguf,  // llama.cpp's: adapter.gguf, with a Modelfile for Ollama
  mlx,   // MLX's: adapters.safetensors and adapter_config.json
};

/// export_lora() in any of the formats: the same factors, and the same check of what was written. Throws
/// config.no-export too for what the format cannot hold: a head of its own, biases, a larger vocabulary.
ExportReport export_adapter(const Adapter& adapter, const std::filesystem::path& output, ExportFormat format,
                            int64_t rank, const Probe& probe,
                            const std::function<void(const std::filesystem::path&)>& companions = {},
                            Combination combination = Combination::sum);

}  // namespace deltaw

// LoRA files of image models as adapters of a model that is loaded, and back.
#pragma once

#include <filesystem>

#include "adapt/lora_file.h"
#include "deltaw/adapter.h"
#include "io/tensor_file.h"

namespace deltaw {

/// A config as PEFT has it and the tensors that go with it, by the names of a model.
struct LoraContents {
  Json config;
  io::TensorFile tensors;
};

/// Warns with the names of all tensors that are of none of the model's layers. Throws format.no-such-layer where all
/// are, shape.mismatch for factors of another size, and what LoraFile throws.
LoraContents read_lora_file(const std::filesystem::path& file, const Model& model);

/// The factors of a plain LoRA, or of one with magnitudes. Throws config.no-export for what is no denoiser, and for
/// layers that such files have no factors for. `what` is "a LoRA of diffusers".
LoraPart lora_part_of(const Adapter& lora, const std::string& what);

}  // namespace deltaw

// LoRA files of image models as adapters of a model that is loaded, and back.
#pragma once

#include <filesystem>

#include "adapt/adapter_folder.h"
#include "adapt/lora_file.h"
#include "deltaw/adapter.h"

namespace deltaw {

/// As PEFT would have it, by the names of the model. Warns with the names of all tensors that are of none of the
/// model's layers. Throws format.no-such-layer where all are, shape.mismatch for factors of another size, and what
/// LoraFile throws.
AdapterContents read_lora_file(const std::filesystem::path& file, const Model& model);

/// The factors of a plain LoRA, or of one with magnitudes. Throws config.no-export for what is no denoiser, and for
/// layers that such files have no factors for. `what` is "a LoRA of diffusers".
LoraPart lora_part_of(const Adapter& lora, const std::string& what);

}  // namespace deltaw

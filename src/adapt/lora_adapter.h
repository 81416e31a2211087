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

/// Whether PEFT's folder of a UNet's adapter has that of the text encoder in it, as `deltaw convert` writes the two.
bool has_peft_text_encoder(const std::filesystem::path& folder);
/// The LoRA in such a folder, or of a UNet alone, part by part. Throws what LoraFile::of_peft throws.
std::vector<LoraFile> peft_parts(const std::filesystem::path& folder);
/// The same as read_lora_file reads a file.
AdapterContents read_peft_parts(const std::filesystem::path& folder, const Model& model);

/// The factors of a plain LoRA, or of one with magnitudes, of each part of the pipeline that it changes. Throws
/// config.no-export for what is no denoiser, and for layers that such files have no factors for. `what` is "a LoRA of
/// diffusers".
std::vector<LoraPart> lora_parts_of(const Adapter& lora, const std::string& what);

/// Whether an adapter, or any part of one, changes layers of a pipeline's text encoder. Throws what opening it throws.
bool changes_text_encoder(const std::filesystem::path& adapter);

}  // namespace deltaw

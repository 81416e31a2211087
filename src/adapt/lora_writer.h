// LoRA files of image models, written. What every one says is alpha / r B A; where a file has room for no alpha, or its
// readers overlook some, the scale stands in B.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "adapt/lora_file.h"

namespace deltaw {

/// As diffusers' save_lora_weights: alpha is the rank of every layer, which readers take where nothing else is said.
/// The names are those that diffusers reads whatever stands first in the file: lora_A and lora_B in the UNet,
/// lora_linear_layer in the text encoder.
void write_diffusers_lora(const std::vector<LoraPart>& parts, const std::filesystem::path& folder);

/// As kohya's scripts, with their metadata as far as it is known; `unet` is the config.json of the UNet. Alphas are
/// written as they are. Throws config.no-export for biases.
void write_kohya_lora(const std::vector<LoraPart>& parts, const Json& unet, const std::filesystem::path& folder);

/// As PEFT saves an adapter of each part, that of the text encoder in a folder of its name.
void write_peft_lora(const std::vector<LoraPart>& parts, const std::string& base, const std::filesystem::path& folder);

/// The part with one alpha for all layers, the highest rank: diffusers reads other alphas of kohya's names for the
/// layers of attention as if they were this.
LoraPart with_one_alpha(LoraPart part);

}  // namespace deltaw

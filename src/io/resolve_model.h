// From a model's name to its folder.
#pragma once

#include <filesystem>
#include <string>

namespace deltaw::io {

/// Where `model_name_or_path` lies: the folder or GGUF file itself, or the snapshot of that hub name in the local
/// Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; revision
/// from refs/main). "organisation/name:Q4_K_M" is the GGUF file of that quantisation there, and "folder:Q4_K_M" of a
/// folder. A folder without a checkpoint that holds one GGUF file leads to that file, and one of a pipeline of
/// diffusers (model_index.json) to that of its UNet. Throws config.model-not-found: with the command that downloads it,
/// or with the names where there are several GGUF files.
std::filesystem::path resolve_model(const std::string& model_name_or_path);

/// Whether a folder is a pipeline of diffusers: models, schedulers and tokenizers in folders of their own.
bool is_pipeline(const std::filesystem::path& folder);

}  // namespace deltaw::io

// Models that nobody has trained yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "deltaw/model.h"

namespace deltaw {

/// A model of diffusers from the config.json of a folder, which needs no weights: these are drawn in float32 as torch
/// draws its layers (linear layers and convolutions uniform within 1 / sqrt(inputs), embeddings normal, norms ones and
/// zeros), in the model's order. Throws config.unsupported for a model of transformers, which begins otherwise, and
/// what load_model throws for its config.json.
std::unique_ptr<Model> new_model(const std::filesystem::path& folder, uint64_t seed);

/// Writes its config.json and weights as a checkpoint's folder of their library. Throws io.*.
void write_new_model(const Model& model, const std::filesystem::path& folder);

}  // namespace deltaw

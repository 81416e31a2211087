// The weights of a checkpoint folder, in one file or in shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace deltaw::io {

inline constexpr int64_t kLargestShard = 5'000'000'000;  // bytes, as transformers long had it

// Names of weights, less ".safetensors".
inline constexpr const char *kTransformersWeights = "model", *kDiffusersWeights = "diffusion_pytorch_model";

/// Writes model.safetensors, or `name` in the place of model; or, where the tensors together are larger than `most`
/// bytes, model-00001-of-00002.safetensors and so on with model.safetensors.index.json. Tensors keep their order and
/// are never cut: one that is larger than `most` has a shard of its own. Throws what write_safetensors throws.
void write_weights(const std::filesystem::path& folder, const std::vector<TensorBytes>& tensors,
                   int64_t most = kLargestShard, const std::string& name = kTransformersWeights);

}  // namespace deltaw::io

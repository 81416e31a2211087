// What the weights of a checkpoint's folder may be called.
#pragma once

#include <string>
#include <vector>

namespace deltaw::io {

/// One file, or the list of its shards and a pattern of their names.
struct WeightsName {
  std::string file;    // "model.safetensors"
  std::string index;   // "model.safetensors.index.json"
  std::string shards;  // "model-*-of-*.safetensors"
};

/// In the order in which they are looked for: of transformers before diffusers, in safetensors before torch.save, and
/// the variant "fp16" where there is no other.
const std::vector<WeightsName>& weights_names();

}  // namespace deltaw::io

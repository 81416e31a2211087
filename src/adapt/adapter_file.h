// The names and shapes that tensors have in adapter_model.safetensors.
#pragma once

#include <string>

#include "deltaw/adapter.h"

namespace deltaw {

inline const std::string kModel = "base_model.model.";
inline const std::string kShared = "base_model.";
/// PEFT's second name of the word embeddings behind virtual tokens, where modules_to_save has it (BERT).
inline const std::string kPromptWords = "word_embeddings.weight";

/// PEFT wraps the base twice where a method adapts layers, and once where it only puts tokens before the input.
inline const std::string& base_prefix(const Adapter& adapter) {
  return adapter.spec().on(ActsOn::virtual_tokens) ? kShared : kModel;
}

/// Of the random bases: enough to see that those drawn elsewhere are not these.
std::string hash_of(const Params& shared);

/// A layer's tensor in the shape that it has in the file.
Tensor in_file(const Param& param);

/// The name of trained rows in the file, after that of the embedding they belong to.
std::string tokens_name(const Parameter& parameter);

/// A stand-in's name in the file: PEFT calls the bias of an adapted layer "<module>.base_layer.bias".
std::string override_name(const Adapter& adapter, const Parameter& parameter);

}  // namespace deltaw

// Names of tensors that old checkpoints of transformers and diffusers have otherwise.
#pragma once

#include <string>

namespace deltaw {

/// The name in an old checkpoint; empty where it is the same.
std::string legacy_name(const std::string& name);
/// The name that a tensor of a checkpoint, old or new, has today.
std::string present_name(const std::string& stored);

}  // namespace deltaw

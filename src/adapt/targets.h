// Which modules an adapter acts on: PEFT's matching.
#pragma once

#include <string>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

/// The linear layers that `config` targets, in the model's order. `modules_to_save` (with the head) are never targeted.
/// Throws config.no-target, and for a list config.unmatched-target naming the entry that matches no linear layer.
std::vector<const Layer*> find_targets(const Model& model, const AdapterConfig& config, const MethodSpec& spec);

/// The parameters below the modules whose names end as an entry of `modules_to_save` says. Throws
/// config.unmatched-module for an entry that names nothing, save the head names that PEFT writes for any model.
std::vector<const Parameter*> find_saved(const Model& model, const std::vector<std::string>& modules_to_save);

/// The base's own tensors that the method trains. Where it has none on layers (BitFit), target_modules,
/// exclude_modules and layers_to_transform choose among their modules. Throws config.no-target.
std::vector<const Parameter*> find_base_tensors(const Model& model, const AdapterConfig& config,
                                                const MethodSpec& spec);

/// target_modules as it acts: the method's defaults for the model where `config` has none.
Json effective_targets(const Model& model, const AdapterConfig& config, const MethodSpec& spec);

}  // namespace deltaw

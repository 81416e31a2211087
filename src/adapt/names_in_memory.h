// The names that transformers 5 has for a model's modules in memory, where they are not those of the checkpoint.
//
// FamilySpec::names_in_memory is the table; of a model of several towers each tower has that of its own family, below
// the tower's name. A second name with a bar, "mlp.gate_proj|mlp.up_proj", says that the layer is split there: no
// adapter of one of its parts is an adapter of the layer.
#pragma once

#include <string>
#include <vector>

#include "deltaw/model.h"

namespace deltaw {

/// Whether any of the model's modules may have another name in memory.
bool has_names_in_memory(const Model& model);

/// A module's or a tensor's name in memory. It is the same where the model's family is null or has no table, and for a
/// layer that is split.
std::string name_in_memory(const Model& model, std::string name);

/// The names of the layers in memory that a layer is split into; none: it is not.
std::vector<std::string> split_in_memory(const Model& model, const std::string& name);

/// Which of the two kinds of names an adapter has, for people. Empty where its family has one kind, or its names say
/// nothing of it. `names` are those of its tensors, `config` is its adapter_config.json, by which and by the base that
/// it names the family is known.
std::string names_of_adapter(const std::vector<std::string>& names, const Json& config);

}  // namespace deltaw

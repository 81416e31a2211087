// How an adapter writes the names of a model's modules. PEFT has those of the object that it wraps: of a bare base
// model they lack the prefix that they have behind a head, and transformers 5 has other names in memory than
// checkpoints have.
#pragma once

#include <string>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "io/tensor_file.h"

namespace deltaw {

class ModuleNames {
 public:
  /// As they are written here: those in memory, behind a head.
  /// `start` is what all names of tensors begin with: "base_model.model.".
  ModuleNames(const Model& model, std::string start);

  /// As a file has them: those of most of its tensors, and where these say nothing, those that `config` names. Throws
  /// format.split-layer for a tensor of a part of a layer, which no name stands for.
  static ModuleNames of_file(const io::TensorFile& file, const std::string& start, const AdapterConfig& config,
                             const Model& model);

  /// The name in the file of a tensor that has the model's name behind `start`.
  std::string in_file(const std::string& name) const;
  /// The same of a module, without `start`.
  std::string module_in_file(const std::string& name) const;

  /// The configuration of such a file as it is meant for the model's own names; of a bare model it has no task.
  AdapterConfig for_model(AdapterConfig config) const;
  /// A configuration in the model's own names as such a file has it.
  AdapterConfig for_file(AdapterConfig config) const;

  /// Whether a tensor of the file is of the pooler, which PEFT adapts with the other layers though no hidden state goes
  /// through it, and the model has none.
  bool of_lacking_pooler(const std::string& name) const;

 private:
  ModuleNames(const Model& model, std::string start, bool in_memory, bool bare);

  const Model* model_;
  std::string start_, prefix_;  // "base_model.model.", "bert."
  bool in_memory_ = true;
  bool bare_ = false;  // the file is of the bare base model, and the model has a head
};

/// What a user asks for, in the model's own names: an entry that none of them fits may be a name in memory. Throws
/// config.split-layer for one that is a part of a layer.
AdapterConfig in_own_names(const Model& model, AdapterConfig config);

}  // namespace deltaw

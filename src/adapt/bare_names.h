// Adapters that PEFT made over the bare base model: without the prefix that its modules' names have behind a head.
#pragma once

#include <set>
#include <string>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "io/tensor_file.h"

namespace deltaw {

/// Which names an adapter file has for a model's tensors: the same, or those of the bare base model.
class BareNames {
 public:
  /// `start` is what all names begin with: "base_model.model.".
  BareNames(const io::TensorFile& file, const std::string& start, const Model& model);

  std::string in_file(const std::string& name) const;
  std::string in_model(const std::string& name) const;
  /// Whether a tensor of the file is of the pooler, which PEFT adapts with the other layers though no hidden state goes
  /// through it, and the model has none.
  bool of_lacking_pooler(const std::string& name) const;
  /// The configuration of such a file as it is meant for the model: expressions match whole names, and a base model has
  /// no task.
  AdapterConfig in_model(AdapterConfig config) const;

 private:
  std::string start_, prefix_;      // "base_model.model.", "bert."
  std::set<std::string> children_;  // of the base model: "embeddings", "encoder"
  bool apply_ = false;              // the file is of the bare base model, and the model has a head
  bool lacks_pooler_ = false;
};

}  // namespace deltaw

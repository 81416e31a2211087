// What a task adds to a model once it is loaded.
#pragma once

#include <string>
#include <vector>

#include "deltaw/model.h"
#include "deltaw/task_reader.h"

namespace deltaw::tasks {

/// What a TaskReader is, too, that may train more than the checkpoint it is given: another part of a pipeline, say.
class ExtendsModel {
 public:
  virtual ~ExtendsModel() = default;
  /// Called once, after read() or choose_model() and before any adapter is made or loaded.
  virtual void extend(Model& model, const TaskFiles& files) const = 0;
  /// Those of its keys of training that ask for it.
  virtual std::vector<std::string> extending_keys() const = 0;
};

/// Lets a reader that does so extend the model.
inline void extend(const TaskReader& reader, Model& model, const TaskFiles& files) {
  if (const auto* extends = dynamic_cast<const ExtendsModel*>(&reader)) extends->extend(model, files);
}

}  // namespace deltaw::tasks

// What a task makes before its first step beside rows and model.
#pragma once

#include "deltaw/model.h"

namespace deltaw::tasks {

/// What a TaskReader is, too, whose rows are known by number before all of them are there: pictures that the base
/// makes, say. `validate` asks for nothing of it, so that it writes nothing.
class PreparesRun {
 public:
  virtual ~PreparesRun() = default;
  /// Called once, behind encode() and before the first step. `model` is the base.
  virtual void prepare(const Model& model) = 0;
};

}  // namespace deltaw::tasks

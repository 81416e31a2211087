// What a task shows of its model while it is trained.
#pragma once

#include <cstdint>
#include <filesystem>

#include "deltaw/adapter.h"
#include "deltaw/model.h"

namespace deltaw::tasks {

/// What a TaskReader is, too, whose models make something to look at: pictures. The engine asks for it after
/// evaluations, or every so many epochs, and after the last step, and puts it into output_dir.
class ShowsTraining {
 public:
  virtual ~ShowsTraining() = default;
  /// Whether the keys of the run ask for it.
  virtual bool shows() const = 0;
  /// Every how many epochs; 0: at each evaluation.
  virtual int64_t show_epochs() const = 0;
  /// Writes what `adapter`, as it is now, makes of `model` into an empty folder. It changes neither, nor anything that
  /// training draws.
  virtual void show(const Model& model, const Adapter& adapter, const std::filesystem::path& folder) const = 0;
};

}  // namespace deltaw::tasks

// What a task shows of a run, in folders of output_dir: validation-500.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "deltaw/run.h"
#include "tasks/common/shows_training.h"
#include "train/schedule.h"

namespace deltaw::run {

bool is_shown_folder(const std::string& name);

class Shown {
 public:
  /// `run` must outlive it.
  explicit Shown(const LoadedRun& run);

  /// Whether anything will be shown.
  bool any() const { return shows_ != nullptr; }
  /// Shows the model where it is time for that, and returns the folder, else an empty path. What stands in the way, and
  /// what the model makes that is no number, ends no run: `warn` hears of it.
  std::filesystem::path after(const TrainEvent& event, const Warn& warn);

 private:
  bool is_due(const TrainEvent& event) const;

  const LoadedRun& run_;
  const tasks::ShowsTraining* shows_ = nullptr;
  train::Schedule schedule_;
  int64_t last_ = -1;  // the step that was shown last
};

}  // namespace deltaw::run

// Which rows make which batch of a run, and the key of what is random in it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tasks/common/batch_stream.h"
#include "train/schedule.h"

namespace deltaw::train {

class RunPlan {
 public:
  /// From the step that follows `step` finished ones. `costs` of the training rows, as plan_batches takes them. All
  /// must outlive the plan.
  RunPlan(const TrainOptions& options, const Schedule& schedule, const std::vector<int64_t>& costs,
          bool group_by_length, int64_t step);

  /// The next batch; nothing after the last step.
  std::optional<tasks::BatchPlan> next();

 private:
  const TrainOptions& options_;
  const Schedule& schedule_;
  const std::vector<int64_t>& costs_;
  bool group_by_length_;

  int64_t step_;
  int64_t micro_step_ = 0;
  int64_t planned_epoch_ = -1;
  std::vector<std::vector<int64_t>> batches_ = {};  // of that epoch
};

}  // namespace deltaw::train

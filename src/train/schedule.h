// How many steps a run takes and at which rate, rounded as the Hugging Face Trainer rounds.
#pragma once

#include <cstdint>
#include <string>

#include "deltaw/train.h"

namespace deltaw::train {

struct Schedule {
  int64_t batches_per_epoch = 0;
  int64_t accumulation = 1;     // batches of one step
  int64_t steps_per_epoch = 0;  // the last one of an epoch takes what batches are left
  int64_t total_steps = 0;
  int64_t warmup_steps = 0;
  int64_t epochs = 0;  // begun

  int64_t epoch_of(int64_t step) const { return step / steps_per_epoch; }
  /// First batch of the step that follows `step` finished ones, counted within its epoch.
  int64_t batch_of(int64_t step) const { return step % steps_per_epoch * accumulation; }
  /// Batches of that step.
  int64_t batches_of(int64_t step) const;
  /// Epochs done after `step` steps: 1.5 is half-way through the second.
  double epochs_done(int64_t step) const;
  bool ends_epoch(int64_t step) const { return step > 0 && step % steps_per_epoch == 0; }
};

Schedule make_schedule(const TrainOptions& options, int64_t rows);

/// Whether something that happens by such a strategy ("no", "steps", "epoch") happens after `step` steps.
bool is_due(const Schedule& schedule, const std::string& strategy, int64_t every, int64_t step);

/// Whether a checkpoint may be written there; a run that is stopped writes one anywhere.
bool may_save(const TrainOptions& options, const Schedule& schedule, int64_t step);

/// What learning_rate is multiplied by in the step that follows `step` finished ones.
double rate_factor(const TrainOptions& options, const Schedule& schedule, int64_t step);

}  // namespace deltaw::train

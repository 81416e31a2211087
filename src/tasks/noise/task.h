// The task as its reader makes it.
#pragma once

#include <memory>

#include "deltaw/noise_scheduler.h"
#include "deltaw/task.h"

namespace deltaw::noise {

struct TaskOptions {
  double snr_gamma = 0;                                  // 0: every time counts alike
  double prior_loss_weight = 1;                          // of pictures of the class, where rows have them
  std::shared_ptr<const NoiseScheduler> scheduler = {};  // null: the one beside the model
};

std::unique_ptr<Task> make_task(TaskOptions options = {});

/// The schedule beside a model, or diffusers' standard where there is none.
std::shared_ptr<const NoiseScheduler> scheduler_of(const std::filesystem::path& model);

}  // namespace deltaw::noise

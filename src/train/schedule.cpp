#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/train_options.h"

namespace deltaw::train {
namespace {

int64_t divide_up(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

int64_t count_warmup(const TrainOptions& options, int64_t total) {
  if (options.warmup_steps >= 1) return static_cast<int64_t>(options.warmup_steps);
  const double ratio = options.warmup_steps > 0 ? options.warmup_steps : options.warmup_ratio;
  return static_cast<int64_t>(std::ceil(static_cast<double>(total) * ratio));
}

}  // namespace

int64_t Schedule::batches_of(int64_t step) const {
  return std::min(accumulation, batches_per_epoch - batch_of(step));
}

double Schedule::epochs_done(int64_t step) const {
  const int64_t batches = std::min(step % steps_per_epoch * accumulation, batches_per_epoch);
  return static_cast<double>(epoch_of(step)) + static_cast<double>(batches) / static_cast<double>(batches_per_epoch);
}

Schedule make_schedule(const TrainOptions& options, int64_t rows) {
  Schedule schedule;
  schedule.batches_per_epoch = divide_up(rows, options.per_device_train_batch_size);
  schedule.accumulation = options.gradient_accumulation_steps;
  schedule.steps_per_epoch = divide_up(schedule.batches_per_epoch, schedule.accumulation);
  const auto per_epoch = static_cast<double>(schedule.steps_per_epoch);
  schedule.total_steps =
      options.max_steps > 0 ? options.max_steps : static_cast<int64_t>(std::ceil(options.num_train_epochs * per_epoch));
  schedule.warmup_steps = count_warmup(options, schedule.total_steps);
  schedule.epochs = divide_up(schedule.total_steps, schedule.steps_per_epoch);
  return schedule;
}

bool is_due(const Schedule& schedule, const std::string& strategy, int64_t every, int64_t step) {
  const bool last = step >= schedule.total_steps;
  if (strategy == "steps") return last || step % every == 0;
  return strategy == "epoch" && (last || schedule.ends_epoch(step));
}

bool may_save(const TrainOptions& options, const Schedule& schedule, int64_t step) {
  if (step <= 0 || step > schedule.total_steps) return false;
  return is_due(schedule, options.save_strategy, options.save_steps, step) ||
         (options.load_best_model_at_end && is_due(schedule, options.eval_strategy, options.eval_steps, step));
}

double rate_factor(const TrainOptions& options, const Schedule& schedule, int64_t step) {
  const std::string& type = options.lr_scheduler_type;
  if (type == "constant") return 1;
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  if (step < schedule.warmup_steps) return static_cast<double>(step) / warmup;
  if (type == "constant_with_warmup") return 1;
  const auto falling = static_cast<double>(std::max<int64_t>(1, schedule.total_steps - schedule.warmup_steps));
  if (type == "linear") return std::max(0.0, static_cast<double>(schedule.total_steps - step) / falling);
  const double progress = (static_cast<double>(step) - warmup) / falling;
  const double least = min_lr_rate(options);
  return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)) * (1 - least) + least);
}

}  // namespace deltaw::train

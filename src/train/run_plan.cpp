#include "train/run_plan.h"

#include "deltaw/data.h"
#include "train/train_options.h"

namespace deltaw::train {

RunPlan::RunPlan(const TrainOptions& options, const Schedule& schedule, const std::vector<int64_t>& costs,
                 bool group_by_length, int64_t step)
    : options_(options), schedule_(schedule), costs_(costs), group_by_length_(group_by_length), step_(step) {}

std::optional<tasks::BatchPlan> RunPlan::next() {
  if (step_ >= schedule_.total_steps) return std::nullopt;
  const int64_t epoch = schedule_.epoch_of(step_);
  if (epoch != planned_epoch_) {
    batches_ = plan_batches(costs_, options_.per_device_train_batch_size, data_seed(options_), epoch, group_by_length_);
    planned_epoch_ = epoch;
  }
  const auto batch = static_cast<size_t>(schedule_.batch_of(step_) + micro_step_);
  const Draw draw{
      .seed = static_cast<uint64_t>(options_.seed), .epoch = epoch, .step = step_, .micro_step = micro_step_};
  if (++micro_step_ == schedule_.batches_of(step_)) {
    ++step_;
    micro_step_ = 0;
  }
  return tasks::BatchPlan{batches_[batch], draw};
}

}  // namespace deltaw::train

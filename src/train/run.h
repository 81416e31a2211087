// One run of a trainer, from the first step or a checkpoint to the end.
#pragma once

#include <vector>

#include "tasks/common/batch_stream.h"
#include "train/run_checkpoint.h"
#include "train/trainer_inputs.h"

namespace deltaw::train {

class Run {
 public:
  /// Everything that can be refused is refused here, before anything is trained or written.
  explicit Run(TrainerInputs& inputs);

  TrainResult train();

 private:
  struct Step {  // what the last step found
    double loss = 0;
    double norm = 0;
    double rate = 0;
    double data_wait_seconds = 0;
    double forward_seconds = 0;
    double backward_seconds = 0;
    double optimizer_seconds = 0;
  };

  void resume();
  bool settled_path(const std::filesystem::path& folder) const;
  Step take_step(tasks::BatchStream& stream);
  std::vector<Batch> batches_of_step(tasks::BatchStream& stream);
  // Both return the loss of the step, which is yet to be read.
  Tensor add_gradients(const std::vector<Batch>& batches, Step& step);
  Tensor add_compared_gradients(const std::vector<Batch>& batches, Step& step);
  Call call_of(size_t micro_step) const;
  LossScale scale_of(const std::vector<Batch>& batches) const;
  void after_step(const Step& step);
  void log_step(const Step& step);
  void log_evaluation(Json metrics);
  bool run_evaluation();  // true where it is the best so far
  void save();
  void finish(TrainResult& result);
  void load_best();

  bool out_of_patience() const;
  void emit(TrainEvent::Kind kind, Json values) const;
  RunParts parts();

  TrainerInputs& inputs_;
  const TrainOptions& options_;
  Schedule schedule_;
  std::vector<NamedTensor> tensors_;
  AdamW optimizer_;
  RankBudgets budgets_;
  Json identity_;
  RunState state_;

  std::vector<int64_t> costs_;  // of each row
  int64_t formed_bytes_;        // that this takes:
  bool forms_once_;             // W of folded layers, where several batches make a step
  int64_t last_saved_ = -1;
  bool all_reached_ = false;
  int64_t tokens_since_log_ = 0;
  double seconds_since_log_ = 0;
  double waited_since_log_ = 0;  // of these, for batches
};

}  // namespace deltaw::train

// What a run has come to, apart from its tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json_fields.h"
#include "deltaw/train.h"
#include "train/divergence.h"
#include "train/schedule.h"

namespace deltaw::train {

struct RunState {
  int64_t step = 0;  // finished optimiser updates
  int64_t tokens_seen = 0;

  double total_loss = 0;      // over all steps
  double loss_since_log = 0;  // over the steps since the last log
  int64_t steps_since_log = 0;
  LossTrace losses;

  std::optional<double> best_metric;
  int64_t best_step = 0;
  std::filesystem::path best_checkpoint;
  int64_t evaluations_without_gain = 0;

  Json log_history = Json::array();  // as in trainer_state.json

  /// The entry of the evaluation at `step`, of the last one for -1; empty where there is none.
  Json evaluation(int64_t step = -1) const;
};

/// Notes an evaluation's metric: the best one and the patience of early stopping. True where it is the best so far.
bool note_metric(RunState& state, const TrainOptions& options, double value, bool greater_is_better);

/// trainer_state.json with the keys of Hugging Face's TrainerState.
Json to_trainer_state(const RunState& state, const TrainOptions& options, const Schedule& schedule);
/// What trainer_state.json has no key for.
Json to_progress(const RunState& state);

/// A JSON file of a checkpoint. What is wrong with its values throws format.checkpoint naming file and key.
JsonFields read_checkpoint_file(const std::filesystem::path& file);

/// From both files.
RunState read_run_state(const std::filesystem::path& checkpoint);

}  // namespace deltaw::train

// What a trainer has been given.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.h"
#include "deltaw/train.h"

namespace deltaw::train {

struct TrainerInputs {
  const Model& model;
  Adapter& adapter;
  const Task& task;
  TrainOptions options;

  std::shared_ptr<const RowSource> train = {};
  std::shared_ptr<const RowSource> validation = {};  // or null
  bool group_by_length = false;

  std::vector<std::string> metrics = {};  // empty: the task's
  std::function<void(const std::filesystem::path&)> companions = {};
  std::function<void(const TrainEvent&)> on_event = {};
  std::function<int()> stop_when = {};

  int64_t memory = memory_bytes();  // that the choice between ways to compute may count on

  bool has_validation() const { return validation && validation->size() > 0; }
  /// The names of the scores; the one that chooses the best checkpoint is among them.
  std::vector<std::string> metric_list() const;
  /// That one, without "eval_".
  std::string chosen_metric() const;
};

/// Throws config.* for options, data and metrics that do not fit together, and as Task::check.
void check_inputs(const TrainerInputs& inputs);

/// What can be kept of weights that are formed once for the micro-batches of a step (ops/formed_weights.h): bytes, 0
/// where there are none. `costs` of the training rows.
int64_t formed_bytes(const Adapter& adapter, const TrainOptions& options, const std::vector<int64_t>& costs);

/// Whether a new run keeps them. All of the memory counts, not what is free of it, so that equal machines round alike.
bool keeps_formed(int64_t formed_bytes, int64_t memory);

/// Metrics on the validation rows with eval_loss and timings. Throws numeric.non-finite for a loss that is no number.
Json evaluate(const TrainerInputs& inputs);

}  // namespace deltaw::train

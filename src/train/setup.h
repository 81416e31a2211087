// What a trainer has been given.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "deltaw/train.h"

namespace deltaw::train {

struct Setup {
  const Model& model;
  Adapter& adapter;
  TrainOptions options;

  std::vector<EncodedRow> train = {};
  std::vector<EncodedRow> validation = {};
  int64_t pad_id = 0;
  bool pads_left = false;
  bool group_by_length = false;

  std::vector<std::string> metrics = {};
  std::string best_metric = "loss";
  std::function<void(const std::filesystem::path&)> companions = {};
  std::function<void(const TrainEvent&)> on_event = {};
  std::function<int()> stop_when = {};

  int64_t memory = memory_bytes();  // that the choice between ways to compute may count on

  /// The metric that chooses the best checkpoint, without "eval_".
  std::string chosen_metric() const;
};

/// Throws config.* for options, data and metrics that do not fit together, data.label for a label outside the model's,
/// and as check_rows.
void check_setup(const Setup& setup);

/// What can be kept of weights that are formed once for the micro-batches of a step (ops/formed_weights.h): bytes, 0
/// where there are none. `lengths` of the training rows.
int64_t formed_bytes(const Adapter& adapter, const TrainOptions& options, const std::vector<int64_t>& lengths);

/// Whether a new run keeps them. All of the memory counts, not what is free of it, so that equal machines round alike.
bool keeps_formed(int64_t formed_bytes, int64_t memory);

/// Metrics on the validation rows with eval_loss and timings. Throws numeric.non-finite for a loss that is no number.
Json evaluate(const Setup& setup);

}  // namespace deltaw::train

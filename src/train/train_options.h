// Combinations of training options that cannot be.
#pragma once

#include "deltaw/train.h"

namespace deltaw::train {

/// Throws config.training naming the key.
void check_options(const TrainOptions& options, bool has_validation, bool smooths_labels);

/// Where the schedule ends, as a share of learning_rate.
double min_lr_rate(const TrainOptions& options);

uint64_t data_seed(const TrainOptions& options);

}  // namespace deltaw::train

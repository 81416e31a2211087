// Combinations of training options that cannot be.
#pragma once

#include "deltaw/train.h"

namespace deltaw::train {

/// Throws config.training naming the key.
void check_options(const TrainOptions& options, bool has_validation, bool regression);

/// Throws config.unknown-metric for what cannot choose the best checkpoint of a causal model.
void check_causal_metric(const std::string& name);

uint64_t data_seed(const TrainOptions& options);

}  // namespace deltaw::train

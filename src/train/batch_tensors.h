// From a batch of rows to tensors, and to the training loss.
#pragma once

#include "deltaw/data.h"
#include "deltaw/model.h"

namespace deltaw::train {

ModelInput to_input(const Batch& batch);

/// [rows]: int64 class numbers, or float32 (float64 for a float64 model) scores for regression.
Tensor to_labels(const Model& model, const std::vector<double>& labels);

/// model_loss with the share `smoothing` of every label spread over all classes.
Tensor training_loss(const Model& model, const Tensor& logits, const Tensor& labels, double smoothing);

}  // namespace deltaw::train

// From a batch of rows to tensors, and to the training loss.
#pragma once

#include "deltaw/data.h"
#include "deltaw/model.h"

namespace deltaw::train {

ModelInput to_input(const Batch& batch);

/// [rows]: int64 class numbers, or float32 (float64 for a float64 model) scores for regression.
Tensor to_labels(const Model& model, const std::vector<double>& labels);
/// The same of a batch; of a causal model its token labels [rows, length].
Tensor to_labels(const Model& model, const Batch& batch);

/// What a causal model is to say of a batch: for each of the n tokens that are trained on, the position before it in
/// the flattened batch, the token and its row. The first token of a document has none before it.
struct Targets {
  Tensor positions;  // [n] int64
  Tensor labels;     // [n] int64
  Tensor rows;       // [n] int64
};
Targets to_targets(const Batch& batch);

/// The number of a row's tokens that are trained on.
int64_t trained_tokens(const EncodedRow& row);

/// Sum of the losses of a causal model over `targets`, in nats. Gradients reach the adapter of the call.
Tensor causal_loss_sum(const Model& model, const Tensor& features, const Targets& targets, Call& call,
                       double label_smoothing);

/// model_loss with the share `smoothing` of every label spread over all classes.
Tensor training_loss(const Model& model, const Tensor& logits, const Tensor& labels, double smoothing);

}  // namespace deltaw::train

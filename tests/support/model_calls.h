// Text inputs that are no batch of a task: the fixtures' own.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "ops/cross_entropy.h"

namespace deltaw::test {

/// Logits of `input`, those of padding left out.
inline Probe probe_of(const ModelInput& input) {
  return [input](const Model& model, const Adapter* adapter) {
    const at::NoGradGuard no_grad;
    Call call{.adapter = adapter};
    const Tensor logits = model.forward(input, call).to(at::kDouble);
    return logits.dim() == 3 ? logits.index({input.attention_mask.ne(0)}) : logits;
  };
}

/// As transformers' heads take it: of logits [batch, labels] with classes or scores [batch], or of a causal model's
/// [batch, seq, vocabulary] with token labels [batch, seq].
inline Tensor mean_loss(const Model& model, const Tensor& logits, const Tensor& labels) {
  if (logits.dim() == 3) return ops::causal_loss(logits, labels);
  const Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  if (model.is_regression()) return at::mse_loss(wide.squeeze(1), labels.to(wide.scalar_type()));
  return at::cross_entropy_loss(wide, labels.to(at::kLong));
}

inline CalibrationBatch calibration_batch(const ModelInput& input, const Tensor& labels) {
  return {.rows = input.input_ids.size(0), .loss = [input, labels](const Model& model, Call& call) {
            return mean_loss(model, model.forward(input, call), labels);
          }};
}

}  // namespace deltaw::test

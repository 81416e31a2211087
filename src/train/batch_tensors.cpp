#include "train/batch_tensors.h"

#include <torch/torch.h>

#include <algorithm>

#include "deltaw/train.h"

namespace deltaw::train {
namespace {

Tensor to_tensor(const std::vector<int64_t>& values, int64_t rows) {
  Tensor tensor = at::empty({rows, static_cast<int64_t>(values.size()) / rows}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
  return tensor;
}

}  // namespace

ModelInput to_input(const Batch& batch) {
  ModelInput input;
  input.input_ids = to_tensor(batch.input_ids, batch.rows);
  input.attention_mask = to_tensor(batch.attention_mask, batch.rows);
  const std::vector<int64_t>& types = batch.token_type_ids;
  const bool all_zero = std::all_of(types.begin(), types.end(), [](int64_t type) { return type == 0; });
  if (!all_zero) input.token_type_ids = to_tensor(types, batch.rows);
  return input;
}

Tensor to_labels(const Model& model, const std::vector<double>& labels) {
  const Tensor wide = at::empty({static_cast<int64_t>(labels.size())}, at::kDouble);
  std::copy(labels.begin(), labels.end(), wide.data_ptr<double>());
  if (!model.is_regression()) return wide.to(at::kLong);
  return model.dtype() == at::kDouble ? wide : wide.to(at::kFloat);
}

Tensor training_loss(const Model& model, const Tensor& logits, const Tensor& labels, double smoothing) {
  if (smoothing == 0) return model_loss(model, logits, labels);
  const Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(wide, labels, {}, at::Reduction::Mean, -100, smoothing);
}

}  // namespace deltaw::train

namespace deltaw {

Tensor predict_logits(const Model& model, const Adapter* adapter, const std::vector<EncodedRow>& rows,
                      int64_t batch_size, int64_t pad_id, bool pads_left) {
  const torch::NoGradGuard no_grad;  // no inference mode: what the model caches now may serve training later
  Tensor all = at::empty({static_cast<int64_t>(rows.size()), model.num_labels()}, at::kFloat);
  for (const std::vector<int64_t>& positions : plan_evaluation(row_lengths(rows), batch_size)) {
    const ModelInput input = train::to_input(collate(rows, positions, pad_id, pads_left));
    Call call;
    call.adapter = adapter;
    const Tensor logits = model.forward(input, call).to(at::kFloat);
    for (size_t i = 0; i < positions.size(); ++i) all[positions[i]].copy_(logits[static_cast<int64_t>(i)]);
  }
  return all;
}

}  // namespace deltaw

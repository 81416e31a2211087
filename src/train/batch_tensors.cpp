#include "train/batch_tensors.h"

#include <ATen/ATen.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "deltaw/error.h"
#include "deltaw/train.h"
#include "ops/cross_entropy.h"
#include "train/check_rows.h"

namespace deltaw::train {
namespace {

Tensor to_tensor(const std::vector<int64_t>& values, int64_t rows) {
  Tensor tensor = at::empty({rows, static_cast<int64_t>(values.size()) / rows}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
  return tensor;
}

/// Calls use(i) for every token that is trained on, by its position in the row.
template <class Use>
void for_each_target(const int64_t* labels, const int64_t* documents, int64_t length, const Use& use) {
  for (int64_t i = 1; i < length; ++i) {
    if (labels[i] != kNoLabel && (!documents || documents[i] == documents[i - 1])) use(i);
  }
}

Tensor to_tensor(const std::vector<int64_t>& values) {
  return to_tensor(values, 1).flatten();
}

ops::Head head_of(const Model& model, Call& call) {
  return [&model, &call](const Tensor& features) { return model.logits(features, call); };
}

/// What an adapter trains of a causal model's head.
std::vector<Tensor> trained_head(const Model& model, const Adapter* adapter) {
  std::vector<Tensor> trained;
  if (!adapter) return trained;
  const auto add = [&](const Tensor& tensor) {
    if (tensor.defined() && tensor.requires_grad()) trained.push_back(tensor);
  };
  const Layer& head = *model.head_layer();
  if (const AdaptedLayer* adapted = adapter->layer(head)) {
    for (const Param& param : adapted->params.all()) add(param.value);
  }
  add(adapter->value(head.weight));
  if (const TrainedTokens* tokens = adapter->tokens(head.weight)) add(tokens->rows);
  add(adapter->value(head.bias));
  return trained;
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

Targets to_targets(const Batch& batch) {
  std::vector<int64_t> positions, labels, rows;
  for (int64_t row = 0; row < batch.rows; ++row) {
    const int64_t begin = row * batch.length;
    const int64_t* own = batch.token_labels.data() + begin;
    for_each_target(own, batch.attention_mask.data() + begin, batch.length, [&](int64_t i) {
      positions.push_back(begin + i - 1);
      labels.push_back(own[i]);
      rows.push_back(row);
    });
  }
  return {to_tensor(positions), to_tensor(labels), to_tensor(rows)};
}

int64_t trained_tokens(const EncodedRow& row) {
  int64_t count = 0;
  for_each_target(row.token_labels.data(), row.documents.empty() ? nullptr : row.documents.data(),
                  static_cast<int64_t>(row.token_labels.size()), [&](int64_t) { ++count; });
  return count;
}

Tensor causal_loss_sum(const Model& model, const Tensor& features, const Targets& targets, Call& call,
                       double label_smoothing) {
  return ops::chunked_cross_entropy(features.flatten(0, 1).index_select(0, targets.positions), targets.labels,
                                    model.vocab_size(), head_of(model, call), trained_head(model, call.adapter),
                                    label_smoothing);
}

Tensor to_labels(const Model& model, const Batch& batch) {
  return model.is_causal() ? to_tensor(batch.token_labels, batch.rows) : to_labels(model, batch.labels);
}

Tensor training_loss(const Model& model, const Tensor& logits, const Tensor& labels, double smoothing) {
  if (smoothing == 0) return model_loss(model, logits, labels);
  const Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(wide, labels, {}, at::Reduction::Mean, -100, smoothing);
}

}  // namespace deltaw::train

namespace deltaw {
namespace {

void tell(const Progress& progress, int64_t done, const std::vector<EncodedRow>& rows) {
  if (progress) progress(done, static_cast<int64_t>(rows.size()));
}

[[noreturn]] void refuse_row(int64_t row) {
  throw Error({.id = "numeric.non-finite",
               .what = "the model's logits are not finite",
               .where = fmt::format("row {} of the data", row + 1),
               .fix = "compute with --dtype float32; if that is no help, the weights themselves are broken"});
}

}  // namespace

Tensor predict_logits(const Model& model, const Adapter* adapter, const std::vector<EncodedRow>& rows,
                      int64_t batch_size, int64_t pad_id, bool pads_left, const Progress& progress) {
  train::check_rows(model, adapter, rows);
  const at::NoGradGuard no_grad;  // no inference mode: what the model caches now may serve training later
  Tensor all = at::empty({static_cast<int64_t>(rows.size()), model.num_labels()}, at::kFloat);
  int64_t done = 0;
  for (const std::vector<int64_t>& positions : plan_evaluation(row_lengths(rows), batch_size)) {
    const ModelInput input = train::to_input(collate(rows, positions, pad_id, pads_left));
    Call call;
    call.adapter = adapter;
    const Tensor logits = model.forward(input, call).to(at::kFloat);
    for (size_t i = 0; i < positions.size(); ++i) all[positions[i]].copy_(logits[static_cast<int64_t>(i)]);
    tell(progress, done += static_cast<int64_t>(positions.size()), rows);
  }
  const Tensor finite = all.isfinite().all(1);
  if (!finite.all().item<bool>()) refuse_row(finite.logical_not().to(at::kInt).argmax().item<int64_t>());
  return all;
}

std::vector<RowLoss> predict_losses(const Model& model, const Adapter* adapter, const std::vector<EncodedRow>& rows,
                                    int64_t batch_size, int64_t pad_id, bool pads_left, const Progress& progress) {
  train::check_rows(model, adapter, rows);
  const at::NoGradGuard no_grad;
  std::vector<RowLoss> all(rows.size());
  int64_t done = 0;
  for (const std::vector<int64_t>& positions : plan_evaluation(row_lengths(rows), batch_size)) {
    const Batch batch = collate(rows, positions, pad_id, pads_left);
    const train::Targets targets = train::to_targets(batch);
    tell(progress, done += static_cast<int64_t>(positions.size()), rows);
    if (targets.labels.numel() == 0) continue;
    Call call{.adapter = adapter};
    const Tensor features = model.features(train::to_input(batch), call).flatten(0, 1);
    const Tensor losses = ops::token_cross_entropy(features.index_select(0, targets.positions), targets.labels,
                                                   model.vocab_size(), train::head_of(model, call))
                              .to(at::kDouble);
    for (int64_t i = 0; i < losses.numel(); ++i) {
      RowLoss& row = all[static_cast<size_t>(positions[static_cast<size_t>(targets.rows.data_ptr<int64_t>()[i])])];
      row.nll += losses.data_ptr<double>()[i];
      row.tokens += 1;
    }
  }
  for (size_t i = 0; i < all.size(); ++i) {
    if (!std::isfinite(all[i].nll)) refuse_row(static_cast<int64_t>(i));
  }
  return all;
}

}  // namespace deltaw

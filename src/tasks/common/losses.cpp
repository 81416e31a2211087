#include "tasks/common/losses.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "deltaw/data.h"
#include "deltaw/error.h"
#include "ops/host_read.h"
#include "tasks/common/check_rows.h"

namespace deltaw::tasks {

void check_finite(double loss, const std::string& where) {
  if (std::isfinite(loss)) return;
  throw Error({.id = "numeric.non-finite",
               .what = fmt::format("the loss is {}", loss),
               .where = where,
               .fix = "compute with --dtype float32; if that is no help, the weights themselves are broken"});
}

void refuse_logits(int64_t row) {
  throw Error({.id = "numeric.non-finite",
               .what = "the model's logits are not finite",
               .where = fmt::format("row {} of the data", row + 1),
               .fix = "compute with --dtype float32; if that is no help, the weights themselves are broken"});
}

Tensor wide(const Tensor& logits) {
  return logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
}

Tensor unit_rows(const Tensor& rows) {
  return rows / rows.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
}

RowLoss sum_of(const std::vector<RowLoss>& rows) {
  RowLoss sum;
  for (const RowLoss& row : rows) {
    sum.nll += row.nll;
    sum.tokens += row.tokens;
  }
  return sum;
}

ops::Head head_of(const Model& model, Call& call) {
  return [&model, &call](const Tensor& features) { return model.logits(features, call); };
}

std::vector<Tensor> trained_tensors(const Call& call) {
  std::vector<Tensor> trained;
  if (!call.adapter) return trained;
  std::set<const at::TensorImpl*> seen;  // layers share tensors
  const auto add = [&](const Tensor& tensor) {
    if (tensor.defined() && tensor.requires_grad() && seen.insert(tensor.unsafeGetTensorImpl()).second) {
      trained.push_back(tensor);
    }
  };
  for (const AdaptedLayer* layer : call.adapter->layers()) {
    for (const Param& param : layer->params.all()) add(param.value);
  }
  for (const Parameter* parameter : call.adapter->model().parameters()) {
    add(call.adapter->value(*parameter));
    if (const TrainedTokens* tokens = call.adapter->tokens(*parameter)) add(tokens->rows);
  }
  return trained;
}

Tensor at_targets(const Tensor& features, const Batch& batch) {
  return features.flatten(0, 1).index_select(0, batch["target_positions"]);
}

Tensor without_padding(const Tensor& outputs, const Batch& batch) {
  return outputs.flatten(0, 1).index_select(0, ops::host_places(batch["attention_mask"]).to(outputs.device()));
}

void RowLosses::add(const Tensor& features, const Batch& batch) {
  Call call{.adapter = adapter_};
  const std::vector<double> losses = ops::host_values<double>(ops::token_cross_entropy(
      at_targets(features, batch), batch["target_labels"], model_.vocab_size(), head_of(model_, call)));
  const std::vector<int64_t> rows = ops::host_values<int64_t>(batch["target_rows"]);
  for (size_t i = 0; i < losses.size(); ++i) {
    RowLoss& row = losses_[static_cast<size_t>(batch.positions[static_cast<size_t>(rows[i])])];
    row.nll += losses[i];
    row.tokens += 1;
  }
}

const std::vector<RowLoss>& RowLosses::finite() const {
  for (size_t row = 0; row < losses_.size(); ++row) {
    if (!std::isfinite(losses_[row].nll)) refuse_logits(static_cast<int64_t>(row));
  }
  return losses_;
}

Json mean_loss(const RowLoss& sum, const std::string& where) {
  const double loss = sum.nll / static_cast<double>(sum.tokens);
  check_finite(loss, where);
  return {{"loss", loss}, {"perplexity", std::exp(loss)}};
}

}  // namespace deltaw::tasks

namespace deltaw {

std::vector<RowLoss> predict_losses(const Model& model, const Adapter* adapter, const CausalRows& rows,
                                    int64_t batch_size, const Progress& progress) {
  const at::NoGradGuard no_grad;  // no inference mode: what the model caches now may serve training later
  tasks::check_rows(model, adapter, rows.rows());
  tasks::RowLosses losses(model, adapter, rows.size());
  int64_t done = 0;
  for (const std::vector<int64_t>& positions : plan_evaluation(costs_of(rows), batch_size)) {
    const Batch batch = rows.collate(positions, {});
    if (batch["target_labels"].numel() > 0) {
      Call call{.adapter = adapter};
      losses.add(model.features(text_input(batch), call), batch);
    }
    done += batch.rows;
    if (progress) progress(done, rows.size());
  }
  return losses.finite();
}

}  // namespace deltaw

#include "tasks/common/class_logits.h"

#include <algorithm>
#include <cmath>

#include "ops/host_read.h"
#include "tasks/common/losses.h"
#include "tasks/common/metrics.h"

namespace deltaw::tasks {

Tensor mean_loss(const LabelSet& meaning, const Tensor& logits, const Tensor& labels, double smoothing) {
  const Tensor scores = wide(logits);
  if (meaning.regression) return at::mse_loss(scores.squeeze(1), labels.to(scores.scalar_type()));
  if (meaning.multi_label) return at::binary_cross_entropy_with_logits(scores, labels.to(scores.scalar_type()));
  return at::cross_entropy_loss(scores, labels.to(at::kLong), {}, at::Reduction::Mean, -100, smoothing);
}

Tensor class_loss(const LabelSet& meaning, const Tensor& logits, const Batch& batch, const LossScale& scale) {
  const Tensor mean = mean_loss(meaning, logits, batch["labels"], scale.label_smoothing);
  const double batches = scale.total_weight / static_cast<double>(batch.rows);
  return batches == 1 ? mean : mean / batches;
}

LabelSet labels_of(const Model& model) {
  if (model.is_regression()) return {.regression = true};
  return {.multi_label = model.is_multi_label(), .names = model.label_names()};
}

double chance_loss(const LabelSet& labels) {
  return labels.multi_label ? std::log(2.0) : std::log(static_cast<double>(labels.outputs()));
}

namespace {

/// The name of the likeliest class, or of all that are likelier than not.
Json said_by(const LabelSet& meaning, const float* logits) {
  const std::vector<std::string>& names = meaning.names;
  if (!meaning.multi_label) {
    return names[static_cast<size_t>(std::max_element(logits, logits + names.size()) - logits)];
  }
  Json said = Json::array();
  for (size_t i = 0; i < names.size(); ++i) {
    if (logits[i] > 0) said.push_back(names[i]);
  }
  return said;
}

}  // namespace

LogitScorer::LogitScorer(LabelSet meaning, int64_t rows, std::vector<std::string> metrics)
    : meaning_(std::move(meaning)),
      metrics_(std::move(metrics)),
      logits_(at::empty({rows, meaning_.outputs()}, at::kFloat)),
      labels_(meaning_.multi_label ? at::zeros({rows, meaning_.outputs()}, at::kDouble)
                                   : at::zeros({rows}, at::kDouble)) {}

void LogitScorer::add(const Outputs& outputs, const Batch& batch) {
  const Tensor logits = ops::host_copy(outputs.at(0).to(at::kFloat)), labels = ops::host_copy(batch["labels"]);
  for (int64_t i = 0; i < batch.rows; ++i) {
    const int64_t row = batch.positions[static_cast<size_t>(i)];
    logits_[row].copy_(logits[i]);
    labels_[row].copy_(labels[i]);
  }
}

const Tensor& LogitScorer::logits() {
  if (checked_) return logits_;
  const Tensor finite = logits_.isfinite().all(1);
  if (!ops::host_flag(finite.all())) refuse_logits(ops::host_integer(finite.logical_not().to(at::kInt).argmax()));
  checked_ = true;
  return logits_;
}

Json LogitScorer::metrics() {
  const double loss = ops::host_number(mean_loss(meaning_, logits(), labels_, 0));
  check_finite(loss, "the logits of the validation rows");
  const Values values = ops::host_values<double>(logits_), labels = ops::host_values<double>(labels_);
  Json all = {{"loss", loss}};
  all.update(meaning_.multi_label ? multi_label_metrics(metrics_, values, meaning_.outputs(), labels)
                                  : compute_metrics(metrics_, values, meaning_.outputs(), meaning_.regression, labels));
  return all;
}

Json LogitScorer::row(int64_t position) {
  const std::vector<float> row = ops::host_values<float>(logits()[position]);
  if (meaning_.regression) return {{"label", row[0]}};
  return {{"label", said_by(meaning_, row.data())}, {"logits", row}};
}

}  // namespace deltaw::tasks

#include "tasks/multiple_choice/scorer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/host_read.h"
#include "tasks/common/losses.h"

namespace deltaw::multiple_choice {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

/// The most likely choice, the first of equals.
size_t likeliest(const std::vector<float>& logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Logarithms of the probabilities.
std::vector<double> log_shares(const std::vector<float>& logits) {
  const double most = logits[likeliest(logits)];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  std::vector<double> shares;
  for (const float logit : logits) shares.push_back(logit - most - std::log(sum));
  return shares;
}

}  // namespace

Tensor by_rows(const Tensor& logits, const Batch& batch) {
  const Tensor mask = batch.get("choice_mask"), scores = tasks::wide(logits);
  if (!mask.defined()) return scores;
  return at::full(mask.sizes(), kNever, scores.options()).masked_scatter(mask, scores);
}

Tensor summed_loss(const Tensor& logits, const Batch& batch, double smoothing) {
  const Tensor shares = logits.log_softmax(1);
  const Tensor right = -shares.gather(1, batch["labels"].unsqueeze(1)).sum();
  if (smoothing == 0) return right;
  const Tensor& mask = batch["choice_mask"];
  const Tensor all = -shares.masked_fill(mask.logical_not(), 0).sum(1) / mask.sum(1);
  return (1 - smoothing) * right + smoothing * all.sum();
}

void ChoiceScorer::add(const Outputs& outputs, const Batch& batch) {
  const std::vector<float> logits = ops::host_values<float>(outputs.at(0));
  const int64_t most = outputs.at(0).size(1);
  for (int64_t i = 0; i < batch.rows; ++i) {
    const int64_t row = batch.positions[static_cast<size_t>(i)];
    const float* own = logits.data() + i * most;
    logits_[static_cast<size_t>(row)].assign(own, own + rows_.count(row));
  }
}

const std::vector<float>& ChoiceScorer::finite(int64_t row) const {
  const std::vector<float>& logits = logits_[static_cast<size_t>(row)];
  if (!std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); })) {
    tasks::refuse_logits(row);
  }
  return logits;
}

Json ChoiceScorer::metrics() {
  double loss = 0;
  int64_t right = 0;
  for (int64_t row = 0; row < rows_.size(); ++row) {
    const std::vector<float>& logits = finite(row);
    const auto label = static_cast<size_t>(rows_.label(row));
    loss -= log_shares(logits)[label];
    right += likeliest(logits) == label;
  }
  const auto rows = static_cast<double>(rows_.size());
  tasks::check_finite(loss, "the logits of the validation rows");
  return {{"loss", loss / rows}, {"accuracy", static_cast<double>(right) / rows}};
}

Json ChoiceScorer::row(int64_t position) {
  const std::vector<float>& logits = finite(position);
  const size_t choice = likeliest(logits);
  Json line = {{"label", choice}};
  if (!rows_.questions().empty()) {
    const ChoiceQuestion& question = rows_.questions()[static_cast<size_t>(position)];
    line = {{"label", question.name(choice)}, {"text", question.choices[choice]}};
  }
  line["scores"] = Json::array();
  for (const double share : log_shares(logits)) line["scores"].push_back(std::exp(share));
  return line;
}

std::vector<std::pair<std::string, Tensor>> ChoiceScorer::tensors() {
  int64_t most = 0;
  for (int64_t row = 0; row < rows_.size(); ++row) most = std::max(most, rows_.count(row));
  const Tensor all = at::full({rows_.size(), most}, kNever, at::kFloat);
  for (int64_t row = 0; row < rows_.size(); ++row) {
    const std::vector<float>& logits = finite(row);
    std::copy(logits.begin(), logits.end(), all.mutable_data_ptr<float>() + row * most);
  }
  return {{"logits", all}};
}

}  // namespace deltaw::multiple_choice

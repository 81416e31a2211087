// What classifiers of any input share: the loss of their logits, and scores.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/task.h"

namespace deltaw::tasks {

/// The mean over the rows of logits [rows, labels]; `labels` [rows] float64, or [rows, labels] of several classes.
Tensor mean_loss(const LabelSet& meaning, const Tensor& logits, const Tensor& labels, double smoothing);

/// The same of a batch whose rows count alike, as its share of the step's mean.
Tensor class_loss(const LabelSet& meaning, const Tensor& logits, const Batch& batch, const LossScale& scale);

/// What the labels of a model mean.
LabelSet labels_of(const Model& model);

/// The mean loss of one who guesses, where the labels are classes.
double chance_loss(const LabelSet& labels);

/// Logits and labels of every row, by position.
class LogitScorer final : public Scorer {
 public:
  LogitScorer(LabelSet meaning, int64_t rows, std::vector<std::string> metrics);

  void add(const Outputs& outputs, const Batch& batch) override;
  Json metrics() override;
  Json row(int64_t position) override;
  std::vector<std::pair<std::string, Tensor>> tensors() override { return {{"logits", logits()}}; }

  /// Throws numeric.non-finite.
  const Tensor& logits();

 private:
  LabelSet meaning_;
  std::vector<std::string> metrics_;
  Tensor logits_, labels_;
  bool checked_ = false;  // all rows are there, and finite
};

}  // namespace deltaw::tasks

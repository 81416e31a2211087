// Sequence classification: one class a text, any number of them, or one score; as transformers' problem_type says.
//
//   loss   single_label: cross entropy of logits [rows, labels] with the rows' classes
//          multi_label: binary cross entropy with each class, the mean over rows and classes
//          regression: mean squared error
//   scores accuracy, F1, area under the ROC curve; F1 over all decisions, over classes, and the share of rows that are
//          right in every class; errors, what is explained, correlations; those of a task of GLUE by its name
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "ops/host_read.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "tasks/common/metrics.h"
#include "tasks/seq_cls/reader.h"

namespace deltaw {
namespace {

/// The mean over the rows; `labels` [rows] float64, or [rows, labels] of several classes.
Tensor mean_loss(const Model& model, const Tensor& logits, const Tensor& labels, double smoothing) {
  const Tensor scores = tasks::wide(logits);
  if (model.is_regression()) return at::mse_loss(scores.squeeze(1), labels.to(scores.scalar_type()));
  if (model.is_multi_label()) return at::binary_cross_entropy_with_logits(scores, labels.to(scores.scalar_type()));
  return at::cross_entropy_loss(scores, labels.to(at::kLong), {}, at::Reduction::Mean, -100, smoothing);
}

LabelSet labels_of(const Model& model) {
  if (model.is_regression()) return {.regression = true};
  return {.multi_label = model.is_multi_label(), .names = model.label_names()};
}

[[noreturn]] void refuse_count(const EncodedRow& row, int64_t classes, const std::string& split) {
  throw Error({.id = "data.label",
               .what = fmt::format("the row says of {} classes whether it has them, and the model has {}",
                                   row.labels.size(), classes),
               .where = fmt::format("{} row {}", split, row.index),
               .fix = "load the model with the labels and the problem_type of the data"});
}

/// The name of the likeliest class, or of all that are likelier than not.
Json said_by(const Model& model, const float* logits) {
  const std::vector<std::string>& names = model.label_names();
  if (!model.is_multi_label()) {
    return names[static_cast<size_t>(std::max_element(logits, logits + names.size()) - logits)];
  }
  Json said = Json::array();
  for (size_t i = 0; i < names.size(); ++i) {
    if (logits[i] > 0) said.push_back(names[i]);
  }
  return said;
}

/// Logits and labels of every row, by position.
class LogitScorer final : public Scorer {
 public:
  LogitScorer(const Model& model, int64_t rows, std::vector<std::string> metrics)
      : model_(model),
        metrics_(std::move(metrics)),
        logits_(at::empty({rows, model.num_labels()}, at::kFloat)),
        labels_(model.is_multi_label() ? at::zeros({rows, model.num_labels()}, at::kDouble)
                                       : at::zeros({rows}, at::kDouble)) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    const Tensor logits = ops::host_copy(outputs.at(0).to(at::kFloat)), labels = ops::host_copy(batch["labels"]);
    for (int64_t i = 0; i < batch.rows; ++i) {
      const int64_t row = batch.positions[static_cast<size_t>(i)];
      logits_[row].copy_(logits[i]);
      labels_[row].copy_(labels[i]);
    }
  }

  const Tensor& logits() {
    if (checked_) return logits_;
    const Tensor finite = logits_.isfinite().all(1);
    if (!ops::host_flag(finite.all())) {
      tasks::refuse_logits(ops::host_integer(finite.logical_not().to(at::kInt).argmax()));
    }
    checked_ = true;
    return logits_;
  }

  Json metrics() override {
    const double loss = ops::host_number(mean_loss(model_, logits(), labels_, 0));
    tasks::check_finite(loss, "the logits of the validation rows");
    const tasks::Values values = ops::host_values<double>(logits_), labels = ops::host_values<double>(labels_);
    Json all = {{"loss", loss}};
    all.update(model_.is_multi_label()
                   ? tasks::multi_label_metrics(metrics_, values, model_.num_labels(), labels)
                   : tasks::compute_metrics(metrics_, values, model_.num_labels(), model_.is_regression(), labels));
    return all;
  }

  Json row(int64_t position) override {
    const std::vector<float> row = ops::host_values<float>(logits()[position]);
    if (model_.is_regression()) return {{"label", row[0]}};
    return {{"label", said_by(model_, row.data())}, {"logits", row}};
  }

  std::vector<std::pair<std::string, Tensor>> tensors() override { return {{"logits", logits()}}; }

 private:
  const Model& model_;
  std::vector<std::string> metrics_;
  Tensor logits_, labels_;
  bool checked_ = false;  // all rows are there, and finite
};

class SeqCls final : public Task {
 public:
  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    const std::vector<EncodedRow>& rows = as_rows<TextRows>(source).rows();
    tasks::check_rows(model, adapter, rows);
    if (model.is_regression()) return;
    const int64_t classes = model.num_labels();
    for (const EncodedRow& row : rows) {
      if (model.is_multi_label() && static_cast<int64_t>(row.labels.size()) == classes) continue;
      if (model.is_multi_label() || !row.labels.empty()) refuse_count(row, classes, split);
      if (row.label >= 0 && row.label < static_cast<double>(classes) && row.label == std::floor(row.label)) continue;
      throw Error({.id = "data.label",
                   .what = fmt::format("label {} is not one of the model's classes 0 to {}", row.label, classes - 1),
                   .where = fmt::format("{} row {}", split, row.index),
                   .fix = "load the model with the labels of the data"});
    }
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t length,
                                         uint64_t seed) const override {
    std::vector<EncodedRow> rows = random_texts(model, count, length, seed);
    std::mt19937_64 engine(mix_seed(seed, 1));
    for (EncodedRow& row : rows) {
      if (model.is_multi_label()) {
        for (int64_t i = 0; i < model.num_labels(); ++i) {
          row.labels.push_back(static_cast<double>(data::draw_below(engine, 2)));
        }
        continue;
      }
      const int64_t values = model.is_regression() ? 1000 : model.num_labels();
      row.label = static_cast<double>(data::draw_below(engine, static_cast<uint64_t>(values)));
      if (model.is_regression()) row.label /= 1000;
    }
    return std::make_unique<TextRows>(std::move(rows), /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {logits [rows, labels]}
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {model.forward(text_input(batch), call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    const Tensor mean = mean_loss(model, outputs.at(0), batch["labels"], scale.label_smoothing);
    const double batches = scale.total_weight / weight(batch);
    return batches == 1 ? mean : mean / batches;
  }

  bool smooths_labels(const Model& model) const override { return labels_of(model).one_class(); }

  double chance_loss(const Model& model, const RowSource& source) const override {
    if (model.is_multi_label()) return std::log(2.0);
    if (!model.is_regression()) return std::log(static_cast<double>(model.num_labels()));
    const std::vector<EncodedRow>& rows = as_rows<TextRows>(source).rows();
    double sum = 0;  // of the squares: every score is guessed to be 0
    for (const EncodedRow& row : rows) sum += row.label * row.label;
    return rows.empty() ? 0 : sum / static_cast<double>(rows.size());
  }

  std::vector<std::string> metrics(const Model& model) const override { return metric_names({}, labels_of(model)); }

  void check_metric(const Model& model, const std::string& name) const override {
    tasks::check_class_metric(name, labels_of(model));
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    std::erase(metrics, "loss");
    return std::make_unique<LogitScorer>(model, rows.size(), std::move(metrics));
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& /*batch*/,
                    Call& /*call*/) const override {
    return outputs.at(0).to(at::kDouble);
  }
};

}  // namespace

const TaskSpec& task_seq_cls() {
  static const TaskSpec spec{
      .id = "SEQ_CLS",
      .title = "sequence classification and regression",
      .make = [] { return std::make_unique<SeqCls>(); },
      .reader = seq_cls::make_reader,
      .words = {
          .model = "classifier",
          .models = "classifiers",
          .prediction_keys = "Classifiers",
          .evaluates = "a classifier by the task's metrics",
          .predicts =
              "{\"row\": ..., \"label\": ..., \"logits\": [...]}, {\"row\": ..., \"label\": [...], \"logits\": [...]} "
              "where a row has several classes, {\"row\": ..., \"label\": score} for regression",
          .tensors = "`logits` [rows, labels]"}};
  return spec;
}

Tensor predict_logits(const Model& model, const Adapter* adapter, const TextRows& rows, int64_t batch_size,
                      const Progress& progress) {
  tasks::check_rows(model, adapter, rows.rows());
  LogitScorer scorer(model, rows.size(), {});
  score(SeqCls(), model, adapter, rows, batch_size, scorer, progress);
  return scorer.logits();
}

}  // namespace deltaw

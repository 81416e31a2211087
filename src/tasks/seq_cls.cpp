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
#include "tasks/common/class_logits.h"
#include "tasks/common/losses.h"
#include "tasks/common/metrics.h"
#include "tasks/seq_cls/reader.h"

namespace deltaw {
namespace {

[[noreturn]] void refuse_count(const EncodedRow& row, int64_t classes, const std::string& split) {
  throw Error({.id = "data.label",
               .what = fmt::format("the row says of {} classes whether it has them, and the model has {}",
                                   row.labels.size(), classes),
               .where = fmt::format("{} row {}", split, row.index),
               .fix = "load the model with the labels and the problem_type of the data"});
}

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
    return tasks::class_loss(tasks::labels_of(model), outputs.at(0), batch, scale);
  }

  bool smooths_labels(const Model& model) const override { return tasks::labels_of(model).one_class(); }

  double chance_loss(const Model& model, const RowSource& source) const override {
    if (!model.is_regression()) return tasks::chance_loss(tasks::labels_of(model));
    const std::vector<EncodedRow>& rows = as_rows<TextRows>(source).rows();
    double sum = 0;  // of the squares: every score is guessed to be 0
    for (const EncodedRow& row : rows) sum += row.label * row.label;
    return rows.empty() ? 0 : sum / static_cast<double>(rows.size());
  }

  std::vector<std::string> metrics(const Model& model) const override {
    return metric_names({}, tasks::labels_of(model));
  }

  void check_metric(const Model& model, const std::string& name) const override {
    tasks::check_class_metric(name, tasks::labels_of(model));
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    std::erase(metrics, "loss");
    return std::make_unique<tasks::LogitScorer>(tasks::labels_of(model), rows.size(), std::move(metrics));
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
          .keys = "Classifiers",
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
  tasks::LogitScorer scorer(tasks::labels_of(model), rows.size(), {});
  score(SeqCls(), model, adapter, rows, batch_size, scorer, progress);
  return scorer.logits();
}

}  // namespace deltaw

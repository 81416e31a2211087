// Image classification: one class an image, any number of them, or one score; as transformers' problem_type says.
//
//   loss   as of texts (seq_cls.cpp)
//   scores accuracy and F1, and the share of images whose class is among the five likeliest
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "deltaw/error.h"
#include "deltaw/image_model.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "tasks/common/class_logits.h"
#include "tasks/common/image_rows.h"
#include "tasks/common/image_scorer.h"
#include "tasks/image_classification/reader.h"

namespace deltaw {
namespace {

using image_classification::as_image_model;

class ImageClassification final : public Task {
 public:
  void check(const Model& model, const Adapter* /*adapter*/, const RowSource& source,
             const std::string& split) const override {
    as_image_model(model);
    if (model.is_regression()) return;
    const int64_t classes = model.num_labels();
    for (const Example& row : as_rows<tasks::LabelledImages>(source).rows()) {
      const bool fits = model.is_multi_label()
                            ? static_cast<int64_t>(row.labels.size()) == classes
                            : row.labels.empty() && row.label >= 0 && row.label < static_cast<double>(classes) &&
                                  row.label == std::floor(row.label);
      if (fits) continue;
      throw Error({.id = "data.label",
                   .what = fmt::format("the label is none of the model's {} classes", classes),
                   .where = fmt::format("{}, {}", split, row.text),
                   .fix = "load the model with the labels and the problem_type of the data"});
    }
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t /*cost*/,
                                         uint64_t seed) const override {
    return std::make_unique<tasks::NoiseRows>(count, tasks::labels_of(model), as_image_model(model), seed);
  }

  /// {logits [rows, labels]}
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {as_image_model(model).forward_images(batch["pixel_values"], call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    return tasks::class_loss(tasks::labels_of(model), outputs.at(0), batch, scale);
  }

  bool smooths_labels(const Model& model) const override { return tasks::labels_of(model).one_class(); }

  double chance_loss(const Model& model, const RowSource& source) const override {
    if (!model.is_regression()) return tasks::chance_loss(tasks::labels_of(model));
    double sum = 0;  // of the squares: every score is guessed to be 0
    for (const Example& row : as_rows<tasks::LabelledImages>(source).rows()) sum += row.label * row.label;
    return source.size() == 0 ? 0 : sum / static_cast<double>(source.size());
  }

  std::vector<std::string> metrics(const Model& model) const override {
    return tasks::image_metrics(tasks::labels_of(model));
  }

  void check_metric(const Model& model, const std::string& name) const override {
    tasks::check_image_metric(name, tasks::labels_of(model));
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    return tasks::image_scorer(tasks::labels_of(model), rows.size(), std::move(metrics));
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& /*batch*/,
                    Call& /*call*/) const override {
    return outputs.at(0).to(at::kDouble);
  }
};

}  // namespace

const TaskSpec& task_image_classification() {
  static const TaskSpec spec{
      .id = "image-classification",
      .title = "image classification and regression",
      .make = [] { return std::make_unique<ImageClassification>(); },
      .reader = image_classification::make_reader,
      .words = {.model = "classifier of images",
                .models = "classifiers of images",
                .keys = "Classifiers of images",
                .prediction_keys = "Classifiers of images",
                .evaluates = "a classifier of images by accuracy, F1 and the five likeliest classes",
                .predicts = "{\"row\": ..., \"label\": ..., \"logits\": [...], \"scores\": [{\"label\": ..., "
                            "\"score\": ...}, ...]}, the five likeliest classes first",
                .tensors = "`logits` [rows, labels]"}};
  return spec;
}

}  // namespace deltaw

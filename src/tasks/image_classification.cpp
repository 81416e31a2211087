// Image classification: one class an image, any number of them, or one score; as transformers' problem_type says.
//
//   loss   as of texts (seq_cls.cpp)
//   scores accuracy and F1, and the share of images whose class is among the five likeliest
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "deltaw/image_model.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "ops/host_read.h"
#include "tasks/common/class_logits.h"
#include "tasks/common/metrics.h"
#include "tasks/image_classification/reader.h"
#include "tasks/image_classification/rows.h"

namespace deltaw {
namespace {

using image_classification::ImageRows;

constexpr int64_t kTop = 5;
constexpr const char* kTopMetric = "top5_accuracy";

const ImageModel& as_image_model(const Model& model) {
  if (const auto* images = dynamic_cast<const ImageModel*>(&model)) return *images;
  throw Error({.id = "config.unsupported",
               .what = "model_type '" + (model.family() ? model.family()->model_type : "") + "' reads no images",
               .where = model.folder().string(),
               .fix = "use a checkpoint of ViT, DeiT or DINOv2"});
}

class ImageScorer final : public Scorer {
 public:
  ImageScorer(const Model& model, int64_t rows, std::vector<std::string> metrics)
      : model_(model),
        top_(std::erase(metrics, kTopMetric) > 0),
        labels_(at::zeros({rows}, at::kLong)),
        logits_(model, rows, std::move(metrics)) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    logits_.add(outputs, batch);
    if (!top_) return;
    const Tensor labels = ops::host_copy(batch["labels"]).to(at::kLong);
    for (int64_t i = 0; i < batch.rows; ++i) labels_[batch.positions[static_cast<size_t>(i)]].copy_(labels[i]);
  }

  Json metrics() override {
    Json all = logits_.metrics();
    if (!top_) return all;
    const Tensor best = std::get<1>(logits_.logits().topk(std::min(kTop, model_.num_labels()), 1));
    all[kTopMetric] = ops::host_number(best.eq(labels_.unsqueeze(1)).any(1).to(at::kDouble).mean());
    return all;
  }

  Json row(int64_t position) override {
    Json row = logits_.row(position);
    if (model_.is_regression()) return row;
    const Tensor logits = logits_.logits()[position].to(at::kDouble);
    const Tensor scores = model_.is_multi_label() ? logits.sigmoid() : logits.softmax(0);
    const auto [best, classes] = scores.topk(std::min(kTop, model_.num_labels()));
    const std::vector<double> values = ops::host_values<double>(best);
    const std::vector<int64_t> places = ops::host_values<int64_t>(classes);
    row["scores"] = Json::array();
    for (size_t i = 0; i < values.size(); ++i) {
      row["scores"].push_back({{"label", model_.label_names()[static_cast<size_t>(places[i])]}, {"score", values[i]}});
    }
    return row;
  }

  std::vector<std::pair<std::string, Tensor>> tensors() override { return logits_.tensors(); }

 private:
  const Model& model_;
  bool top_;
  Tensor labels_;
  tasks::LogitScorer logits_;
};

class ImageClassification final : public Task {
 public:
  void check(const Model& model, const Adapter* /*adapter*/, const RowSource& source,
             const std::string& split) const override {
    as_image_model(model);
    if (model.is_regression()) return;
    const int64_t classes = model.num_labels();
    for (const Example& row : as_rows<ImageRows>(source).rows()) {
      const bool fits = model.is_multi_label()
                            ? static_cast<int64_t>(row.labels.size()) == classes
                            : row.labels.empty() && row.label >= 0 && row.label < static_cast<double>(classes) &&
                                  row.label == std::floor(row.label);
      if (fits) continue;
      throw Error({.id = "data.label",
                   .what = fmt::format("the label is none of the model's {} classes", classes),
                   .where = fmt::format("{} row {}", split, row.line),
                   .fix = "load the model with the labels and the problem_type of the data"});
    }
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t /*cost*/,
                                         uint64_t seed) const override {
    std::mt19937_64 engine(mix_seed(seed, 1));
    const int64_t values = model.is_regression() ? 1000 : model.num_labels();
    std::vector<double> labels;
    for (int64_t i = 0; i < count; ++i) {
      labels.push_back(static_cast<double>(data::draw_below(engine, static_cast<uint64_t>(values))));
    }
    return std::make_unique<image_classification::NoiseRows>(std::move(labels), as_image_model(model), seed);
  }

  /// {logits [rows, labels]}
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {as_image_model(model).forward_images(batch["pixel_values"], call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    const Tensor mean = tasks::mean_loss(model, outputs.at(0), batch["labels"], scale.label_smoothing);
    const double batches = scale.total_weight / weight(batch);
    return batches == 1 ? mean : mean / batches;
  }

  bool smooths_labels(const Model& model) const override { return tasks::labels_of(model).one_class(); }

  double chance_loss(const Model& model, const RowSource& source) const override {
    if (!model.is_regression()) return tasks::chance_loss(model);
    double sum = 0;  // of the squares: every score is guessed to be 0
    for (const Example& row : as_rows<ImageRows>(source).rows()) sum += row.label * row.label;
    return source.size() == 0 ? 0 : sum / static_cast<double>(source.size());
  }

  std::vector<std::string> metrics(const Model& model) const override {
    std::vector<std::string> names = metric_names({}, tasks::labels_of(model));
    if (tasks::labels_of(model).one_class() && model.num_labels() > kTop) names.emplace_back(kTopMetric);
    return names;
  }

  void check_metric(const Model& model, const std::string& name) const override {
    if (name != kTopMetric) tasks::check_class_metric(name, tasks::labels_of(model));
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    std::erase(metrics, "loss");
    return std::make_unique<ImageScorer>(model, rows.size(), std::move(metrics));
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
                .prediction_keys = "Classifiers of images",
                .evaluates = "a classifier of images by accuracy, F1 and the five likeliest classes",
                .predicts = "{\"row\": ..., \"label\": ..., \"logits\": [...], \"scores\": [{\"label\": ..., "
                            "\"score\": ...}, ...]}, the five likeliest classes first",
                .tensors = "`logits` [rows, labels]"}};
  return spec;
}

}  // namespace deltaw

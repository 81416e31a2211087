// Classes that are words: an image has the class whose sentences are nearest to it (Radford et al. 2021,
// arXiv:2103.00020). What trains is the tower of images; the classes stay where the tower of texts put them before
// training, as in the few-shot study of RandLoRA (arXiv:2502.00987).
//
//   loss   cross entropy of scale x cosine of each image with each class
//   scores as of image classification
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "deltaw/two_tower_model.h"
#include "tasks/common/class_logits.h"
#include "tasks/common/image_rows.h"
#include "tasks/common/image_scorer.h"
#include "tasks/common/losses.h"
#include "tasks/common/tower_texts.h"
#include "tasks/zero_shot_image_classification/reader.h"
#include "tasks/zero_shot_image_classification/rows.h"
#include "tasks/zero_shot_image_classification/task.h"

namespace deltaw {
namespace zero_shot {
namespace {

using tasks::as_two_towers;

/// Where no rows say which classes there are.
LabelSet ten_classes() {
  LabelSet labels;
  for (int i = 0; i < 10; ++i) labels.names.push_back(std::to_string(i));
  return labels;
}

class ZeroShot final : public Task {
 public:
  explicit ZeroShot(double temperature) : temperature_(temperature) {}

  void check(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
             const std::string& /*split*/) const override {
    as_two_towers(model);
    as_rows<RowsWithClasses>(rows);
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t /*cost*/,
                                         uint64_t seed) const override {
    const TwoTowerModel& towers = as_two_towers(model);
    LabelSet labels = ten_classes();
    at::Generator generator = at::detail::createCPUGenerator(seed);
    const Tensor classes = at::randn({labels.outputs(), towers.projection_dim()}, generator);
    auto images = std::make_shared<const tasks::NoiseRows>(count, labels, towers, seed);
    return std::make_unique<RowsWithClasses>(std::move(images), std::move(labels), tasks::unit_rows(classes));
  }

  /// {logits [rows, classes]}
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    const TwoTowerModel& towers = as_two_towers(model);
    const Tensor images = tasks::wide(towers.image_embeds(batch["pixel_values"], call));
    const Tensor classes = batch["class_embeds"].to(images.scalar_type());
    if (temperature_ == 0) return {towers.logits_per_image(images, classes, call)};
    return {at::matmul(tasks::unit_rows(images), classes.t()) / temperature_};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    return tasks::class_loss({}, outputs.at(0), batch, scale);
  }

  bool smooths_labels(const Model& /*model*/) const override { return true; }

  double chance_loss(const Model& /*model*/, const RowSource& rows) const override {
    return tasks::chance_loss(as_rows<RowsWithClasses>(rows).labels());
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override {
    return tasks::image_metrics(ten_classes());
  }

  void check_metric(const Model& /*model*/, const std::string& name) const override {
    tasks::check_image_metric(name, ten_classes());
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    Call call;
    const bool sigmoid = temperature_ == 0 && as_two_towers(model).logit_bias(call).defined();
    return tasks::image_scorer(as_rows<RowsWithClasses>(rows).labels(), rows.size(), std::move(metrics), sigmoid);
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& /*batch*/,
                    Call& /*call*/) const override {
    return outputs.at(0).to(at::kDouble);
  }

 private:
  double temperature_;
};

}  // namespace

std::unique_ptr<Task> make_task(double temperature) {
  return std::make_unique<ZeroShot>(temperature);
}

}  // namespace zero_shot

const TaskSpec& task_zero_shot_image_classification() {
  static const TaskSpec spec{
      .id = "zero-shot-image-classification",
      .title = "images of classes that are words",
      .make = [] { return zero_shot::make_task(/*temperature=*/0); },
      .reader = zero_shot::make_reader,
      .words = {.model = "model of images and texts",
                .models = "models of images and texts",
                .keys = "Classes that are words",
                .evaluates = "a model of images and texts by the classes whose words are nearest",
                .predicts = "{\"row\": ..., \"label\": ..., \"logits\": [...], \"scores\": [...]} as classifiers of "
                            "images, of the classes that label_names lists",
                .tensors = "`logits` [rows, classes]"}};
  return spec;
}

}  // namespace deltaw

// Images and captions that belong together are brought together, in one space of a model with two towers (Radford et
// al. 2021, arXiv:2103.00020; Zhai et al. 2023, arXiv:2303.15343).
//
//   rows   an image and a caption; an image may have several rows
//   loss   that of tasks/contrastive_image_text/losses.h which the model is trained with, over all rows of a step
//   scores how often images find their captions, and captions their images
//
// The loss of a row looks at all rows of the step, so micro-batches make one large batch.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "deltaw/two_tower_model.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/image_rows.h"
#include "tasks/common/losses.h"
#include "tasks/common/tower_texts.h"
#include "tasks/contrastive_image_text/losses.h"
#include "tasks/contrastive_image_text/reader.h"
#include "tasks/contrastive_image_text/rows.h"
#include "tasks/contrastive_image_text/scorer.h"

namespace deltaw {
namespace contrastive {
namespace {

using tasks::as_two_towers;

bool is_pairwise(const TwoTowerModel& model) {
  Call call;
  return model.logit_bias(call).defined();
}

class ImageText final : public Task {
 public:
  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    as_two_towers(model);
    const auto& rows = as_rows<PairRows>(source);
    tasks::check_rows(model, adapter, rows.captions().rows());
    if (split != "training" || (rows.images() > 1 && rows.captions().size() > 1)) return;
    throw Error({.id = "data.one-pair",
                 .what = rows.images() > 1 ? "all images have the same caption" : "there is one image alone",
                 .where = split + " rows",
                 .fix = "give images with different captions: what does not belong together is what is learned from"});
  }

  /// Captions of `cost` tokens.
  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t cost,
                                         uint64_t seed) const override {
    const TwoTowerModel& towers = as_two_towers(model);
    const int64_t longest = towers.text_length() > 0 ? towers.text_length() : tasks::longest_input(model, nullptr);
    const int64_t length = std::max<int64_t>(1, longest > 0 ? std::min(cost, longest) : cost);
    std::vector<Pair> pairs;
    for (int64_t i = 0; i < count; ++i) pairs.push_back({.image = i, .caption = i});
    return std::make_unique<PairRows>(
        std::move(pairs), std::make_shared<const tasks::NoiseRows>(count, LabelSet{.names = {"0"}}, towers, seed),
        std::make_shared<const tasks::TowerTexts>(random_texts(model, count, length, seed), /*pad_id=*/0,
                                                  /*pads_left=*/false, towers));
  }

  /// {image_embeds, text_embeds}, [rows, projection_dim] each, of any length.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    const TwoTowerModel& towers = as_two_towers(model);
    const Tensor images = towers.image_embeds(batch["pixel_values"], call);
    const Tensor texts = towers.text_embeds(text_input(batch), call);
    return {tasks::wide(images), tasks::wide(texts).index_select(0, batch["text_rows"])};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& call,
              const LossScale& /*scale*/) const override {
    const TwoTowerModel& towers = as_two_towers(model);
    const Tensor logits = towers.logits_per_image(outputs.at(0), outputs.at(1), call);
    const Tensor right = positives(batch["image_ids"], batch["caption_ids"]);
    return is_pairwise(towers) ? sigmoid_loss(logits, right) : softmax_loss(logits, right);
  }

  bool compares_rows() const override { return true; }

  double chance_loss(const Model& model, const RowSource& rows) const override {
    const double guess = std::log(static_cast<double>(rows.size()));
    return is_pairwise(as_two_towers(model)) ? guess + 1 : guess;
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return metric_names(); }

  void check_metric(const Model& /*model*/, const std::string& name) const override { contrastive::check_metric(name); }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* adapter, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    return make_scorer(as_rows<PairRows>(rows), std::move(metrics), as_two_towers(model), adapter);
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& /*batch*/,
                    Call& /*call*/) const override {
    return at::cat({tasks::unit_rows(outputs.at(0)), tasks::unit_rows(outputs.at(1))}, 1).to(at::kDouble);
  }
};

}  // namespace
}  // namespace contrastive

const TaskSpec& task_contrastive_image_text() {
  static const TaskSpec spec{
      .id = "contrastive-image-text",
      .title = "images and captions",
      .make = [] { return std::make_unique<contrastive::ImageText>(); },
      .reader = contrastive::make_reader,
      .head = "zero-shot-image-classification",
      .words = {.model = "contrastive model of images and texts",
                .models = "contrastive models of images and texts",
                .keys = "Images and captions",
                .prediction_keys = "Images and captions",
                .evaluates = "a contrastive model of images and texts by the captions that images find, and the images "
                             "that captions find",
                .predicts = "{\"row\": ..., \"caption\": ..., \"scores\": [...]} of an image's five nearest captions",
                .tensors = "`image_embeds` [rows, projection] and `text_embeds` [captions, projection] of images and "
                           "captions"}};
  return spec;
}

}  // namespace deltaw

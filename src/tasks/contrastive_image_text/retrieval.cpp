#include "tasks/contrastive_image_text/retrieval.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "deltaw/data.h"
#include "ops/host_read.h"
#include "tasks/common/batch_stream.h"
#include "tasks/common/losses.h"

namespace deltaw::contrastive {
namespace {

constexpr int64_t kNearest = 5;

/// Of unit length, [images, projection_dim], without a gradient.
Tensor unit_image_embeds(const AskedModel& asked, const TwoTowerModel& model, const RowSource& images) {
  const at::NoGradGuard no_grad;
  Tensor all;
  int64_t done = 0;
  tasks::BatchStream stream(images, tasks::one_by_one(plan_evaluation(costs_of(images), asked.batch_size)));
  while (const std::optional<Batch> batch = stream.next()) {
    Call call{.adapter = asked.adapter};
    const Tensor units = tasks::unit_rows(tasks::wide(model.image_embeds((*batch)["pixel_values"], call)));
    if (!all.defined()) all = at::zeros({images.size(), units.size(1)}, units.options());
    all.index_copy_(0, at::tensor(at::IntArrayRef(batch->positions), at::kLong), units);
    done += batch->rows;
    if (asked.progress) asked.progress(done, images.size());
  }
  return all;
}

class Nearest final : public Predictions {
 public:
  Nearest(const AskedModel& asked, const RowSource& images, std::vector<std::string> captions,
          const tasks::TowerTexts& texts, std::vector<Json> ids)
      : model_(tasks::as_two_towers(asked.model)),
        adapter_(asked.adapter),
        captions_(std::move(captions)),
        texts_(tasks::unit_text_embeds(model_, adapter_, texts)),
        images_(unit_image_embeds(asked, model_, images)),
        ids_(std::move(ids)) {}

  int64_t size() const override { return static_cast<int64_t>(ids_.size()); }
  Json id(int64_t row) const override { return ids_[static_cast<size_t>(row)]; }

  Json row(int64_t row) override {
    const at::NoGradGuard no_grad;
    Call call{.adapter = adapter_};
    const Tensor image = images_.narrow(0, row, 1);
    const Tensor logits = model_.logits_per_image(image, texts_, call)[0].to(at::kDouble);
    if (ops::host_flag(logits.isfinite().all().logical_not())) tasks::refuse_logits(row);
    const Tensor all = model_.logit_bias(call).defined() ? logits.sigmoid() : logits.softmax(0);
    const Tensor best = std::get<1>(logits.topk(std::min(kNearest, logits.size(0))));
    const std::vector<double> scores = ops::host_values<double>(all.index_select(0, best));
    const std::vector<double> cosines =
        ops::host_values<double>(texts_.index_select(0, best).matmul(image[0]).to(at::kDouble));
    const std::vector<int64_t> places = ops::host_values<int64_t>(best);
    Json line = {{"caption", captions_[static_cast<size_t>(places[0])]}, {"scores", Json::array()}};
    for (size_t i = 0; i < places.size(); ++i) {
      line["scores"].push_back(
          {{"caption", captions_[static_cast<size_t>(places[i])]}, {"score", scores[i]}, {"cosine", cosines[i]}});
    }
    return line;
  }

  std::vector<std::pair<std::string, Tensor>> tensors() override {
    return {{"image_embeds", images_.to(at::kFloat)}, {"text_embeds", texts_.to(at::kFloat)}};
  }

 private:
  const TwoTowerModel& model_;
  const Adapter* adapter_;
  std::vector<std::string> captions_;
  Tensor texts_, images_;
  std::vector<Json> ids_;
};

}  // namespace

std::unique_ptr<Predictions> nearest_captions(const AskedModel& asked, const RowSource& images,
                                              std::vector<std::string> captions, const tasks::TowerTexts& texts,
                                              std::vector<Json> ids) {
  return std::make_unique<Nearest>(asked, images, std::move(captions), texts, std::move(ids));
}

}  // namespace deltaw::contrastive

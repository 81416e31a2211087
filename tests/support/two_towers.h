// Fixtures of models of images and texts (tests/golden/two_towers).
#pragma once

#include "deltaw/adapter.h"
#include "deltaw/two_tower_model.h"
#include "support/golden.h"
#include "support/temporary.h"

namespace deltaw::test {

inline std::filesystem::path pair_folder(const std::string& name) {
  return fixture("golden/two_towers/" + name);
}

inline const TwoTowerModel& as_pair(const Model& model) {
  return dynamic_cast<const TwoTowerModel&>(model);
}

struct PairBatch {
  ModelInput texts;
  Tensor pixel_values;

  explicit PairBatch(const Golden& io, const std::string& prefix = "")
      : texts(io.input(prefix)), pixel_values(io[prefix + "pixel_values"]) {}
};

/// [images, texts]
inline Tensor pair_logits(const Model& model, const PairBatch& batch, Call& call) {
  const TwoTowerModel& pair = as_pair(model);
  const Tensor images = pair.image_embeds(batch.pixel_values, call), texts = pair.text_embeds(batch.texts, call);
  return pair.logits_per_image(images, texts, call);
}

inline Tensor pair_logits(const Model& model, const Adapter* adapter, const PairBatch& batch) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter};
  return pair_logits(model, batch, call);
}

/// transformers' loss where the pairs are the images and texts of one number.
inline Tensor pair_loss(const Model& model, const PairBatch& batch, Call& call) {
  const Tensor logits = pair_logits(model, batch, call);
  const int64_t rows = logits.size(0);
  if (as_pair(model).logit_bias(call).defined()) {
    const Tensor signs = 2 * at::eye(rows, logits.options()) - 1;
    return -at::log_sigmoid(signs * logits).sum(-1).mean();
  }
  const Tensor own = at::arange(rows, at::kLong);
  return (at::cross_entropy_loss(logits, own) + at::cross_entropy_loss(logits.t(), own)) / 2;
}

}  // namespace deltaw::test

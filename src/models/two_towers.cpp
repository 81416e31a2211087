#include "models/two_towers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "deltaw/error.h"
#include "models/gguf.h"
#include "models/loader.h"
#include "models/vision_encoder.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"

namespace deltaw {

Tensor TwoTowerModel::features(const ModelInput& /*input*/, Call& /*call*/) const {
  throw Error({.id = "internal.two-towers",
               .what = "a model of images and texts was given texts alone",
               .where = architecture(),
               .fix = "call image_embeds() and text_embeds()"});
}

Tensor TwoTowerModel::logits(const Tensor& /*features*/, Call& /*call*/) const {
  throw Error({.id = "internal.two-towers",
               .what = "a model of images and texts has no logits of one of them",
               .where = architecture(),
               .fix = "call logits_per_image()"});
}

Tensor TwoTowerModel::logits_per_image(const Tensor& image_embeds, const Tensor& text_embeds, Call& call) const {
  const Tensor scale = logit_scale(call).exp(), bias = logit_bias(call);
  const auto direction = [&](const Tensor& x) {
    const Tensor wide = x.to(scale.scalar_type());
    return wide / wide.norm(2, -1, /*keepdim=*/true);
  };
  const Tensor scaled = at::matmul(direction(image_embeds), direction(text_embeds).t()) * scale;
  return bias.defined() ? scaled + bias : scaled;
}

namespace {

bool reads_images(const FamilySpec& family) {
  return family.head(image_classifier({}).task_type) != nullptr;
}

bool reads_texts(const FamilySpec& family) {
  return !family.is_decoder && (!reads_images(family) || family.head(pair_head().task_type));
}

[[noreturn]] void refuse(const Tower& tower, const std::string& key, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.unsupported",
               .what = fmt::format("model_type '{}' {}", tower.family->model_type, what),
               .where = fmt::format("key \"{}\"", key),
               .fix = fix});
}

class TwoTowerFamilyModel final : public TwoTowerModel {
 public:
  TwoTowerFamilyModel(const FamilyInput& input, const Tower& image, const Tower& text, const TwoTowersForm& form) {
    Loader load(*this, input, input.family->model_type);
    const std::vector<int64_t> shape(static_cast<size_t>(form.scale_dimensions), 1);
    scale_ = load.tensor("logit_scale", shape);
    if (form.bias) bias_ = load.tensor("logit_bias", shape);
    load_texts(load, input, text);
    load_images(load, input, image);
    projection_dim_ = form.projection_dim;
    if (projection_dim_ > 0) {
      const auto projection = [&](const char* name, int64_t width) {
        return load.head(name, projection_dim_, width, 1 / std::sqrt(static_cast<double>(width)), /*bias=*/false);
      };
      image_projection_ = projection("visual_projection", images_->shape().hidden);
      text_projection_ = projection("text_projection", texts_->shape().hidden);
    } else {
      projection_dim_ = images_->shape().hidden;
    }
    load.finish({});
    shape_ = {.hidden = std::max(images_->shape().hidden, texts_->shape().hidden), .heads = images_->shape().heads};
  }

  Tensor image_embeds(const Tensor& pixel_values, Call& call) const override {
    return projected(images_->forward_images(pixel_values, call), image_projection_, call);
  }
  Tensor text_embeds(const ModelInput& input, Call& call) const override {
    return projected(texts_->forward(input, call), text_projection_, call);
  }
  Tensor logit_scale(Call& call) const override { return number(scale_, call); }
  Tensor logit_bias(Call& call) const override { return number(bias_, call); }
  int64_t image_tokens(int64_t height, int64_t width) const override { return images_->image_tokens(height, width); }

 private:
  std::unique_ptr<Model> load_tower(Loader& load, FamilyInput input, const Tower& tower, bool of_images) const {
    const std::string key = of_images ? "vision_config" : "text_config";
    const PartOfModel part{.whole = &load,
                           .scope = of_images ? "vision_model" : "text_model",
                           .config = tower.config,
                           .where = fmt::format("{}, \"{}\"", config_file(folder()).string(), key),
                           .of_images = of_images};
    input.family = tower.family;
    input.head = {};
    input.part = &part;
    return tower.family->load(input);
  }

  void load_images(Loader& load, const FamilyInput& input, const Tower& tower) {
    std::unique_ptr<Model> loaded;
    if (reads_images(*tower.family)) loaded = load_tower(load, input, tower, /*of_images=*/true);
    images_.reset(dynamic_cast<ImageModel*>(loaded.get()));
    if (!images_) refuse(tower, "vision_config", "reads no images", "use a family that does, such as vit");
    [[maybe_unused]] Model* owned = loaded.release();
    image_height_ = images_->image_height();
    image_width_ = images_->image_width();
  }

  void load_texts(Loader& load, const FamilyInput& input, const Tower& tower) {
    if (!reads_texts(*tower.family)) {
      refuse(tower, "text_config", "is no encoder of texts", "use a family of them, such as bert");
    }
    texts_ = load_tower(load, input, tower, /*of_images=*/false);
    vocab_size_ = texts_->vocab_size();
    type_vocab_size_ = texts_->type_vocab_size();
    max_positions_ = texts_->max_positions();
    position_table_ = texts_->has_position_table();
    if (const auto* whole = dynamic_cast<const ReadsPadding*>(texts_.get())) text_length_ = whole->text_length();
  }

  static Tensor projected(const Tensor& pooled, const Linear* projection, Call& call) {
    return projection ? ops::linear(pooled, *projection, call) : pooled;
  }

  Tensor number(const Parameter* parameter, const Call& call) const {
    if (!parameter) return {};
    return ops::value_of(*parameter, call, dtype() == at::kDouble ? at::kDouble : at::kFloat).reshape({});
  }

  std::unique_ptr<ImageModel> images_;
  std::unique_ptr<Model> texts_;
  const Linear *image_projection_ = nullptr, *text_projection_ = nullptr;
  const Parameter *scale_ = nullptr, *bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Model> load_two_towers(const FamilyInput& input, const Tower& image, const Tower& text,
                                       const TwoTowersForm& form) {
  return std::make_unique<TwoTowerFamilyModel>(input, image, text, form);
}

const FamilySpec* find_tower_family(const std::string& model_type) {
  if (const FamilySpec* family = find_family(model_type)) return family;
  for (const std::string_view ending : {"_vision_model", "_text_model"}) {
    if (model_type.ends_with(ending)) return find_family(model_type.substr(0, model_type.size() - ending.size()));
  }
  return nullptr;
}

HeadSpec pair_head(const std::string& architecture) {
  return {.task_type = "zero-shot-image-classification", .architecture = architecture};
}

}  // namespace deltaw

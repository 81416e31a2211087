// Models that put images and texts into one space, such as CLIP.
#pragma once

#include "deltaw/image_model.h"

namespace deltaw {

/// An encoder of images and one of texts. Its modules stand below `vision_model` and `text_model`.
class TwoTowerModel : public Model, public ReadsImages {
 public:
  /// [batch, projection_dim()], as transformers' get_image_features gives them: of any length, since only
  /// logits_per_image() divides by it. pixel_values as ImageModel::image_features takes them. Throws data.image-size.
  virtual Tensor image_embeds(const Tensor& pixel_values, Call& call) const = 0;
  /// [batch, projection_dim()], as get_text_features gives them, likewise of any length. Throws data.too-long, and
  /// data.text-length where a text has not the model's one length.
  virtual Tensor text_embeds(const ModelInput& input, Call& call) const = 0;

  /// A tensor without dimensions, in float32 at least: the logarithm of what similarities are multiplied with. It is
  /// the parameter "logit_scale", which trains where modules_to_save names it.
  virtual Tensor logit_scale(Call& call) const = 0;
  /// What is added to them, likewise; undefined where the family has none (only SigLIP has). The parameter
  /// "logit_bias". A model that has it is trained with a sigmoid for each pair, others with a softmax over rows and one
  /// over columns.
  virtual Tensor logit_bias(Call& call) const = 0;

  /// Cosines of every image with every text, scaled and shifted: [images, texts], in float32 at least.
  Tensor logits_per_image(const Tensor& image_embeds, const Tensor& text_embeds, Call& call) const;

  int64_t projection_dim() const { return projection_dim_; }
  /// The tokens that every text is padded to, whatever its length, because padding is read too (SigLIP); 0: texts have
  /// any length up to max_positions().
  int64_t text_length() const { return text_length_; }

  /// One of its inputs alone gives no logits. Both throw internal.two-towers.
  Tensor features(const ModelInput& input, Call& call) const override;
  Tensor logits(const Tensor& features, Call& call) const override;

 protected:
  int64_t projection_dim_ = 0, text_length_ = 0;
};

}  // namespace deltaw

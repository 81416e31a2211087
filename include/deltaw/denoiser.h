// Models that tell noise from picture, such as the UNets of diffusers.
#pragma once

#include <memory>

#include "deltaw/model.h"

namespace deltaw {

/// What a denoiser is told of a picture besides its noisy pixels or latents.
struct Condition {
  Tensor class_labels;           // [batch] int64; undefined where the model knows no classes
  Tensor encoder_hidden_states;  // [batch, tokens, cross_attention_dim]; undefined where it reads no text
};

/// A model of one picture at one time of the diffusion.
class Denoiser : public Model {
 public:
  /// What the model says of `sample` [batch, in_channels, height, width] at `timesteps` [batch] int64, from 0: the
  /// noise in it, or what else the prediction_type of its scheduler names. [batch, out_channels, height, width] in the
  /// model's type. Throws data.image-size for sides that the model cannot halve as often as it does.
  virtual Tensor denoise(const Tensor& sample, const Tensor& timesteps, const Condition& condition,
                         Call& call) const = 0;

  /// The text encoder of its pipeline where it is a part of the model (add_text_encoder), so that adapters may change
  /// it; null: states of texts are made by another model. Its modules stand below `text_encoder`.
  const Model* text_encoder() const { return text_encoder_.get(); }
  /// Its last hidden states of all tokens of `input_ids` [batch, tokens] int64: [batch, tokens, cross_attention_dim].
  Tensor encode_text(const Tensor& input_ids, Call& call) const;

  int64_t in_channels() const { return in_channels_; }
  int64_t out_channels() const { return out_channels_; }
  int64_t sample_height() const { return sample_height_; }  // that it was trained on; 0: its config.json does not say
  int64_t sample_width() const { return sample_width_; }
  int64_t num_class_embeds() const { return num_class_embeds_; }        // 0: it knows no classes
  int64_t cross_attention_dim() const { return cross_attention_dim_; }  // 0: it reads no text

  /// It reads no text by itself, and its head is no layer of its own. Both throw internal.not-text.
  Tensor features(const ModelInput& input, Call& call) const override;
  Tensor logits(const Tensor& features, Call& call) const override;

 protected:
  int64_t in_channels_ = 0, out_channels_ = 0;
  int64_t sample_height_ = 0, sample_width_ = 0;
  int64_t num_class_embeds_ = 0, cross_attention_dim_ = 0;

 private:
  friend void add_text_encoder(Denoiser& model);

  std::unique_ptr<Model> text_encoder_;
};

}  // namespace deltaw

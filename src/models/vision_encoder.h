// The Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): an image in patches, tokens in front of them, and
// blocks that normalise what enters each sublayer. A family says in its own file where it differs.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/image_model.h"
#include "models/attention_pooling.h"
#include "models/block.h"
#include "models/head_layers.h"
#include "models/loader.h"

namespace deltaw {

struct VisionConfig {
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t intermediate_size = 0;
  int64_t num_channels = 3;
  std::array<int64_t, 2> image_size = {224, 224};  // rows and columns
  std::array<int64_t, 2> patch_size = {16, 16};
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  double hidden_dropout_prob = 0;
  double attention_probs_dropout_prob = 0;
  std::string hidden_act = "gelu", pooler_act = "tanh";
  bool qkv_bias = true;

  // What a family sets.
  bool gated = false;                  // silu(a) * b in the feed-forward layer, whose first matrix gives both
  bool drops_sublayers = true;         // hidden_dropout_prob falls on their outputs too
  double drop_path_rate = 0;           // the share of rows that go without a sublayer in training
  bool antialiased_positions = false;  // where they are stretched
  bool patch_bias = true;

  /// Throws config.* naming the key for what is missing, of the wrong type or not implemented. Without
  /// `intermediate_size` the family sets it.
  static VisionConfig from_json(const ConfigValues& values, int64_t patch_size);

  std::array<int64_t, 2> grid() const { return {image_size[0] / patch_size[0], image_size[1] / patch_size[1]}; }
};

/// Where the modules stand: below `base`, and below `layer` of it. ViT's are the defaults.
struct VisionNames {
  std::string base;                                 // "vit"
  std::vector<std::string> tokens = {"cls_token"};  // in front of the patches, with positions
  bool flat_tokens = false;                         // [hidden], and not [1, 1, hidden]
  std::string positions = "position_embeddings";    // [1, places, hidden]
  bool position_table = false;                      // an embedding of them in its place
  std::string patches = "patch_embeddings.projection";
  std::string registers = {};  // tokens between them and the patches, without positions; empty: none
  int64_t register_count = 0;  // none of them is a tensor too
  std::string layer = "encoder.layer";
  std::string norm_before = "layernorm_before", norm_after = "layernorm_after";
  std::string query = "attention.attention.query", key = "attention.attention.key", value = "attention.attention.value",
              attention_output = "attention.output.dense";
  std::string intermediate = "intermediate.dense", output = "output.dense";
  std::string scale_attention = {}, scale_output = {};  // that multiply a sublayer's output; empty: none
  std::string first_norm = {}, norm = "layernorm";      // before the blocks and behind them; empty: none
  // Of a part, what makes one vector of the tokens: a dense layer and pooler_act behind the first one, or attention.
  // Empty: the first one as it is.
  std::string pooler = "pooler.dense", attention_pooling = {};
};

class VisionEncoder {
 public:
  VisionEncoder(Loader& load, const VisionConfig& config, const VisionNames& names);

  /// Hidden states of pixel_values [batch, 3, height, width], normalised where a norm is behind the blocks: of the
  /// first token, [batch, hidden], where `reads` is that, and the last block computes no others; else of all, [batch,
  /// tokens, hidden]: those of names.tokens, registers, patches row by row.
  Tensor states(const Tensor& pixel_values, Reads reads, Call& call) const;

  int64_t tokens_of(int64_t height, int64_t width) const {
    return before_patches() + (height / config_.patch_size[0]) * (width / config_.patch_size[1]);
  }
  /// Tokens in front of the patches.
  int64_t before_patches() const {
    return static_cast<int64_t>(tokens_.size()) + (registers_ ? registers_->value.size(1) : 0);
  }

 private:
  Block load_block(Loader& load, const VisionNames& names, const std::string& layer);
  /// [1, tokens + rows * columns, hidden]
  Tensor positions(int64_t rows, int64_t columns, const Call& call, at::ScalarType type) const;
  Tensor embed(const Tensor& pixel_values, Call& call) const;

  VisionConfig config_;
  std::vector<const Parameter*> tokens_;
  const Parameter *positions_ = nullptr, *registers_ = nullptr;
  const Embedding* position_table_ = nullptr;
  const Conv2d* patches_;
  std::vector<Block> blocks_;
  const Norm *first_norm_ = nullptr, *norm_ = nullptr;
};

/// What a classifier reads: the first token, that beside the mean of the patches, or that mean alone.
enum class ImageReads { first, first_and_mean, mean };

/// A model of such an encoder and a linear layer, or of such an encoder as a part of another model.
class VisionFamilyModel : public ImageModel {
 public:
  /// `others`: beginnings of the names of tensors that a checkpoint may have and that nothing reads.
  VisionFamilyModel(const FamilyInput& input, const VisionConfig& config, const VisionNames& names, ImageReads reads,
                    const std::vector<std::string>& others);

  Tensor image_features(const Tensor& pixel_values, Call& call) const override;
  Tensor logits(const Tensor& features, Call& call) const override { return layers_(features, call); }
  int64_t image_tokens(int64_t height, int64_t width) const override { return encoder_->tokens_of(height, width); }

 private:
  void load_pooler(Loader& load, const VisionConfig& config, const VisionNames& names);

  std::unique_ptr<VisionEncoder> encoder_;
  std::unique_ptr<AttentionPooling> pooling_;
  ImageReads reads_;
  HeadLayers layers_;
};

/// The head of `<name>ForImageClassification`.
HeadSpec image_classifier(const std::string& name);

/// The spec of a family of this encoder: what `own` leaves open are the names of ViT's layers.
FamilySpec vision_family(FamilySpec own);

}  // namespace deltaw

// The Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): an image in patches, a token in front of them,
// and blocks that normalise what enters each sublayer. A family says in its own file where it differs.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/image_model.h"
#include "models/head_layers.h"
#include "models/loader.h"
#include "ops/activations.h"

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
  std::string hidden_act = "gelu";
  bool qkv_bias = true;

  // What a family sets.
  bool gated = false;                  // silu(a) * b in the feed-forward layer, whose first matrix gives both
  double drop_path_rate = 0;           // the share of rows whose sublayers' outputs are left out in training
  bool antialiased_positions = false;  // where they are stretched

  /// Throws config.* naming the key for what is missing, of the wrong type or not implemented. Without
  /// `intermediate_size` the family sets it.
  static VisionConfig from_json(const ConfigValues& values, int64_t patch_size);
};

/// Where the modules stand: below `base` and below one layer. ViT's are the defaults.
struct VisionNames {
  std::string base;                                 // "vit"
  std::vector<std::string> tokens = {"cls_token"};  // in front of the patches, with positions
  std::string registers = {};  // tokens between them and the patches, without positions; empty: none
  int64_t register_count = 0;
  std::string norm_before = "layernorm_before", norm_after = "layernorm_after";
  std::string intermediate = "intermediate.dense", output = "output.dense";
  std::string scale_attention = {}, scale_output = {};  // vectors that multiply a sublayer's output; empty: none
};

class VisionEncoder {
 public:
  VisionEncoder(Loader& load, const VisionConfig& config, const VisionNames& names);

  /// Normalised hidden states [batch, tokens, hidden] of an image: those of names.tokens, registers, patches row by
  /// row. `firsts_only`: of the first token alone, [batch, 1, hidden]; the last block computes no others.
  Tensor states(const Tensor& pixel_values, bool firsts_only, Call& call) const;

  /// Tokens in front of the patches.
  int64_t before_patches() const { return static_cast<int64_t>(tokens_.size()) + register_count_; }

 private:
  struct Block {
    const Norm* norm_before;
    const Linear *query, *key, *value, *attention_output;
    const Parameter* scale_attention;
    const Norm* norm_after;
    const Linear *intermediate, *output;
    const Parameter* scale_output;
  };

  const Parameter* tensor(Loader& load, const std::string& name, const std::vector<int64_t>& shape);
  Block load_block(Loader& load, const VisionNames& names, const std::string& layer);
  Tensor positions(int64_t rows, int64_t columns, const Call& call) const;
  Tensor embed(const Tensor& pixel_values, Call& call) const;
  Tensor run_block(const Tensor& x, const Block& block, bool firsts_only, Call& call) const;
  Tensor attend(const Tensor& x, const Block& block, bool firsts_only, Call& call) const;
  /// A sublayer's output on its way to the residual sum.
  Tensor ending(Tensor output, const Linear& layer, const Parameter* scale, Call& call) const;

  VisionConfig config_;
  std::deque<Parameter> tensors_;  // that belong to no layer; they do not move
  std::vector<const Parameter*> tokens_;
  const Parameter *positions_, *registers_ = nullptr;
  int64_t register_count_ = 0;
  const Conv2d* patches_;
  std::vector<Block> blocks_;
  const Norm* norm_;
  ops::Activation activation_;
};

/// A model of such an encoder and a linear layer over its first token, or over that and the mean of the patches.
class VisionFamilyModel : public ImageModel {
 public:
  VisionFamilyModel(const FamilyInput& input, const VisionConfig& config, const VisionNames& names, bool reads_mean,
                    const std::vector<std::string>& others);

  Tensor image_features(const Tensor& pixel_values, Call& call) const override;
  Tensor logits(const Tensor& features, Call& call) const override { return layers_(features, call); }

 private:
  std::unique_ptr<VisionEncoder> encoder_;
  bool reads_mean_;
  HeadLayers layers_;
};

/// The head of `<name>ForImageClassification`.
HeadSpec image_classifier(const std::string& name);

/// The spec of a family of this encoder: what `own` leaves open are the names of ViT's layers.
FamilySpec vision_family(FamilySpec own);

}  // namespace deltaw

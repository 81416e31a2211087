// The UNets of diffusers (Ronneberger et al. 2015, arXiv:1505.04597; Ho et al. 2020, arXiv:2006.11239): stages that
// halve a picture, a middle, and stages that double it again and read what the first ones made on the way down.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/denoiser.h"
#include "models/spatial_transformer.h"
#include "models/unet_blocks.h"

namespace deltaw {

/// What follows each ResNet block of a stage: nothing, attention among the pixels, or transformer blocks that read a
/// text.
enum class StageAttention { none, pixels, text };

struct StageForm {
  int64_t channels = 0;
  StageAttention attention = StageAttention::none;
  int64_t heads = 1;
  bool resamples_by_resnet = false;  // a ResNet block halves or doubles the sides, and no convolution
};

struct UNetConfig {
  int64_t in_channels = 0, out_channels = 0;
  std::array<int64_t, 2> sample_size = {0, 0};  // rows and columns; 0: config.json does not say
  bool center_input_sample = false;             // 2 x - 1 is read
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  ResnetForm resnet;
  int64_t layers_per_block = 2;
  std::vector<StageForm> down, up;  // in the order in which a picture goes through them
  bool asymmetric_downsampling = false;
  int64_t num_class_embeds = 0;  // 0: it knows no classes
  int64_t cross_attention_dim = 0;
  int64_t transformer_blocks = 1;
  bool linear_projection = false;
  bool any_size = false;  // a stage doubles the sides to whatever the stage on the way down had

  struct Middle {
    StageAttention attention = StageAttention::pixels;
    int64_t heads = 1, norm_num_groups = 32;  // of pixels' attention; 0: it has no norm
    double output_scale_factor = 1;
  };
  std::optional<Middle> middle;
};

/// The names of a family's blocks, and what each is: "AttnDownBlock2D".
struct UNetBlockNames {
  struct Block {
    std::string name;
    StageAttention attention = StageAttention::none;
    bool resamples_by_resnet = false;
  };
  std::vector<Block> down, up;
  std::vector<std::string> default_down, default_up;
};

/// The keys that the families share, with diffusers' defaults. Throws config.* naming the key for what is missing, of
/// the wrong type or not implemented. The family fills in what attention has, and the middle.
UNetConfig unet_config(const ConfigValues& values, const UNetBlockNames& names,
                       const std::vector<int64_t>& default_channels);

/// block_out_channels: of each stage, in the order of the way down. Throws config.bad-model.
std::vector<int64_t> stage_channels(const ConfigValues& values, std::vector<int64_t> fallback);

/// Whether there is a middle: mid_block_type is `type`, which it also is where it is silent, or null.
bool has_middle(const ConfigValues& values, const std::string& type);

std::unique_ptr<Model> load_unet(const FamilyInput& input, const UNetConfig& config);

/// The spec of a family of such UNets, whose class in diffusers has the name of its model_type.
FamilySpec unet_family(const std::string& model_type, std::function<std::unique_ptr<Model>(const FamilyInput&)> load);

}  // namespace deltaw

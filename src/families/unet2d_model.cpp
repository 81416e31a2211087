// UNet2DModel of diffusers: the networks of DDPM (Ho et al. 2020, arXiv:2006.11239) and its kin, of pictures alone or
// of classes.
#include <fmt/format.h>

#include "models/unet.h"

namespace deltaw {
namespace {

UNetConfig config_of_pixels(const ConfigValues& values) {
  const UNetBlockNames names = {
      .down = {{"DownBlock2D"},
               {"AttnDownBlock2D", StageAttention::pixels},
               {"ResnetDownsampleBlock2D", StageAttention::none, /*resamples_by_resnet=*/true}},
      .up = {{"UpBlock2D"},
             {"AttnUpBlock2D", StageAttention::pixels},
             {"ResnetUpsampleBlock2D", StageAttention::none, /*resamples_by_resnet=*/true}},
      .default_down = {"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"},
      .default_up = {"AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"}};
  UNetConfig c = unet_config(values, names, {224, 448, 672, 896});
  c.in_channels = values.size_or("in_channels", 3);
  c.out_channels = values.size_or("out_channels", 3);
  values.accept_only("class_embed_type", nullptr);
  c.num_class_embeds = values.has("num_class_embeds") ? values.size("num_class_embeds") : 0;

  // The width of a head; null: one head has all channels.
  const bool one_head = values.json().contains("attention_head_dim") && !values.has("attention_head_dim");
  const int64_t width = one_head ? 0 : values.size_or("attention_head_dim", 8);
  const auto heads = [&](int64_t channels) {
    if (one_head) return int64_t{1};
    if (channels % width != 0) {
      values.complain("attention_head_dim", fmt::format("a divisor of {}, the channels of a stage", channels));
    }
    return channels / width;
  };
  const auto settle = [&](std::vector<StageForm>& stages, const char* key) {
    const auto type = values.get_or<std::string>(key, "conv");
    if (type != "conv" && type != "resnet") values.refuse(key, "supported: conv, resnet");
    for (StageForm& stage : stages) {
      if (stage.attention == StageAttention::none) continue;
      stage.heads = heads(stage.channels);
      stage.resamples_by_resnet = type == "resnet";
    }
  };
  settle(c.down, "downsample_type");
  settle(c.up, "upsample_type");

  if (!has_middle(values, "UNetMidBlock2D")) return c;
  const bool attention = values.get_or("add_attention", true);
  const int64_t groups = c.resnet.scale_shift ? 0 : c.resnet.norm_num_groups;
  c.middle = {.attention = attention ? StageAttention::pixels : StageAttention::none,
              .heads = attention ? heads(c.down.back().channels) : 1,
              .norm_num_groups = values.size_or("attn_norm_num_groups", groups),
              .output_scale_factor = values.positive_or("mid_block_scale_factor", 1)};
  return c;
}

}  // namespace

const FamilySpec& family_unet2d_model() {
  static const FamilySpec spec = unet_family(
      "UNet2DModel", [](const FamilyInput& input) { return load_unet(input, config_of_pixels(config_of(input))); });
  return spec;
}

}  // namespace deltaw

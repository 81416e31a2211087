// UNet2DConditionModel of diffusers: the network of Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv:2112.10752),
// which reads a text.
#include <fmt/format.h>

#include <algorithm>

#include "models/unet.h"

namespace deltaw {
namespace {

// Keys of other networks under the same name, such as Stable Diffusion XL's, with the one value that is implemented.
const std::vector<std::pair<const char*, Json>>& others() {
  static const std::vector<std::pair<const char*, Json>> keys = {{"only_cross_attention", false},
                                                                 {"mid_block_only_cross_attention", false},
                                                                 {"dual_cross_attention", false},
                                                                 {"cross_attention_norm", nullptr},
                                                                 {"attention_type", "default"},
                                                                 {"num_attention_heads", nullptr},
                                                                 {"encoder_hid_dim", nullptr},
                                                                 {"encoder_hid_dim_type", nullptr},
                                                                 {"class_embed_type", nullptr},
                                                                 {"num_class_embeds", nullptr},
                                                                 {"class_embeddings_concat", false},
                                                                 {"projection_class_embeddings_input_dim", nullptr},
                                                                 {"addition_embed_type", nullptr},
                                                                 {"addition_time_embed_dim", nullptr},
                                                                 {"resnet_skip_time_act", false},
                                                                 {"resnet_out_scale_factor", 1},
                                                                 {"time_embedding_act_fn", nullptr},
                                                                 {"timestep_post_act", nullptr},
                                                                 {"time_cond_proj_dim", nullptr},
                                                                 {"conv_in_kernel", 3},
                                                                 {"conv_out_kernel", 3},
                                                                 {"reverse_transformer_layers_per_block", nullptr}};
  return keys;
}

// attention_head_dim is the number of heads here, of all stages or of each: an old misnomer that diffusers keeps.
std::vector<int64_t> heads_of(const ConfigValues& values, const UNetConfig& c) {
  const char* key = "attention_head_dim";
  const bool listed = values.has(key) && values.json()[key].is_array();
  auto heads =
      listed ? values.get<std::vector<int64_t>>(key) : std::vector<int64_t>(c.down.size(), values.size_or(key, 8));
  if (heads.size() != c.down.size()) values.complain(key, fmt::format("a number for each of {} stages", c.down.size()));
  for (size_t i = 0; i < heads.size(); ++i) {
    if (heads[i] < 1 || c.down[i].channels % heads[i] != 0) {
      values.complain(key, fmt::format("a divisor of {}, the channels of a stage", c.down[i].channels));
    }
  }
  return heads;
}

UNetConfig config_of_texts(const ConfigValues& values) {
  const UNetBlockNames names = {
      .down = {{"DownBlock2D"}, {"CrossAttnDownBlock2D", StageAttention::text}},
      .up = {{"UpBlock2D"}, {"CrossAttnUpBlock2D", StageAttention::text}},
      .default_down = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
      .default_up = {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}};
  for (const auto& [key, value] : others()) values.accept_only(key, value);
  UNetConfig c = unet_config(values, names, {320, 640, 1280, 1280});
  c.in_channels = values.size_or("in_channels", 4);
  c.out_channels = values.size_or("out_channels", 4);
  c.cross_attention_dim = values.size_or("cross_attention_dim", 1280);
  c.transformer_blocks = values.has("transformer_layers_per_block") ? values.layers("transformer_layers_per_block") : 1;
  c.linear_projection = values.get_or("use_linear_projection", false);
  c.any_size = true;
  std::vector<int64_t> heads = heads_of(values, c);
  for (size_t i = 0; i < heads.size(); ++i) {
    c.down[i].heads = heads[i];
    c.up[i].heads = heads[heads.size() - 1 - i];
  }
  if (!has_middle(values, "UNetMidBlock2DCrossAttn")) return c;
  c.middle = {.attention = StageAttention::text,
              .heads = heads.back(),
              .norm_num_groups = c.resnet.norm_num_groups,
              .output_scale_factor = values.positive_or("mid_block_scale_factor", 1)};
  return c;
}

}  // namespace

const FamilySpec& family_unet2d_condition_model() {
  static const FamilySpec spec = unet_family("UNet2DConditionModel", [](const FamilyInput& input) {
    return load_unet(input, config_of_texts(config_of(input)));
  });
  return spec;
}

}  // namespace deltaw

// An encoder of images and one of texts of any two families, joined by projections as in LiT (Zhai et al. 2022,
// arXiv:2111.07991). What a tower gives is what transformers calls its pooler's output.
#include <fmt/format.h>

#include <utility>

#include "models/loader.h"
#include "models/two_towers.h"

namespace deltaw {
namespace {

constexpr const char* kModelType = "vision-text-dual-encoder";
constexpr const char* kArchitecture = "VisionTextDualEncoderModel";

Tower tower_of(const ConfigValues& values, const char* key) {
  const JsonFields own = values.object(key);
  const auto type = own.get<std::string>("model_type");
  if (const FamilySpec* family = find_tower_family(type)) return {.family = family, .config = own.json()};
  values.refuse(key, fmt::format("one whose model_type deltaw has, which '{}' is not", type));
}

std::unique_ptr<Model> load_dual_encoder(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  return load_two_towers(input, tower_of(values, "vision_config"), tower_of(values, "text_config"),
                         {.projection_dim = values.size_or("projection_dim", 512)});
}

// The layers of any two towers.
constexpr const char* kFeedForward = ".*layers?\\.\\d+\\.(output\\.dense|mlp\\.fc2|mlp\\.weights_out|ffn_output)";
constexpr const char* kAttention =
    ".*layers?\\.\\d+\\.(attention\\.output\\.dense|self_attn\\.out_proj|attention\\.dense|attention\\.attn\\.o)";

}  // namespace

Json pair_config(Json image, Json text, int64_t projection_dim, double logit_scale) {
  for (Json* tower : {&image, &text}) {
    for (const char* key : {"architectures", "id2label", "label2id", "torch_dtype", "dtype", "_name_or_path"}) {
      tower->erase(key);
    }
  }
  return {{"architectures", {kArchitecture}},  {"model_type", kModelType},
          {"vision_config", std::move(image)}, {"text_config", std::move(text)},
          {"projection_dim", projection_dim},  {"logit_scale_init_value", logit_scale}};
}

const FamilySpec& family_vision_text_dual_encoder() {
  static const FamilySpec spec = {
      .model_type = kModelType,
      .heads = {pair_head(kArchitecture)},
      .word_embeddings = "text_model.embeddings.word_embeddings",
      .lora_target_modules = ".*\\.(query|value|q_proj|v_proj|attn\\.q|attn\\.v)",
      .ia3_target_modules = fmt::format(".*\\.(key|value|k_proj|v_proj|attn\\.k|attn\\.v)|{}", kFeedForward),
      .ia3_feedforward_modules = kFeedForward,
      .sublayer_outputs = fmt::format("{}|{}", kAttention, kFeedForward),
      .feedforward_outputs = kFeedForward,
      .load = load_dual_encoder,
  };
  return spec;
}

}  // namespace deltaw

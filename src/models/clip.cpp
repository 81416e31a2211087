#include "models/clip.h"

#include <cmath>

#include "models/gguf.h"
#include "models/two_towers.h"

namespace deltaw {
namespace {

constexpr const char* kVision = "vision_model";

// The configuration of a tower, with the family's values for what it does not say.
Json completed(const Json& config, const Json& defaults) {
  Json whole = defaults;
  for (const auto& [name, value] : config.items()) {
    if (!value.is_null()) whole[name] = value;
  }
  return whole;
}

// The part of config.json under the key. Files of 2022 repeat it under `<key>_dict`; for transformers that one counts.
Json part_of(const ConfigValues& values, const std::string& key, const Json& defaults) {
  const std::string again = key + "_dict";
  const std::string& read = values.has(again) ? again : key;
  return values.has(read) ? completed(values.object(read).json(), defaults) : defaults;
}

VisionNames vision_names(const ClipForm& form) {
  VisionNames names{.base = kVision,
                    .tokens = {"class_embedding"},
                    .flat_tokens = true,
                    .positions = "position_embedding",
                    .position_table = true,
                    .patches = "patch_embedding",
                    .layer = "encoder.layers",
                    .norm_before = "layer_norm1",
                    .norm_after = "layer_norm2",
                    .query = "self_attn.q_proj",
                    .key = "self_attn.k_proj",
                    .value = "self_attn.v_proj",
                    .attention_output = "self_attn.out_proj",
                    .intermediate = "mlp.fc1",
                    .output = "mlp.fc2",
                    .first_norm = "pre_layrnorm",
                    .norm = "post_layernorm",
                    .pooler = ""};
  if (!form.siglip) return names;
  names.tokens.clear();
  names.first_norm.clear();
  names.attention_pooling = "head";
  return names;
}

VisionConfig vision_config(const ConfigValues& values, const ClipForm& form) {
  VisionConfig config = VisionConfig::from_json(values, /*patch_size=*/16);
  config.intermediate_size = values.size("intermediate_size");
  config.attention_probs_dropout_prob = values.dropout_or("attention_dropout", 0);
  config.patch_bias = form.siglip;
  config.initializer_range = 1 / std::sqrt(static_cast<double>(config.hidden_size));
  return config;
}

const std::vector<std::string> kPositionIds = {"embeddings.position_ids"};  // of old files

int64_t head_size(const ConfigValues& text) {
  return text.size_or("projection_size", text.size("hidden_size"));
}

std::unique_ptr<Model> load_part(const FamilyInput& input, const ClipForm& form) {
  const ConfigValues values = config_of(input);
  if (input.part->of_images) {
    values.accept_only("vision_use_head", true);
    return std::make_unique<VisionFamilyModel>(input, vision_config(values, form), vision_names(form),
                                               ImageReads::first, kPositionIds);
  }
  ClipTextConfig text = ClipTextConfig::from_json(values);
  text.causal = !form.siglip;
  text.last = form.siglip;
  if (form.siglip) text.head_size = head_size(values);
  if (!form.siglip) text.eos_token_id = values.token("eos_token_id");
  return std::make_unique<ClipTextPart>(input, text, kPositionIds);
}

// transformers' classifiers read the mean of the patches, CLIP's without the norm behind the blocks.
std::unique_ptr<Model> load_classifier(const FamilyInput& input, const ConfigValues& values, const ClipForm& form) {
  const ConfigValues own(part_of(values, "vision_config", form.image_defaults), values.where() + ", \"vision_config\"");
  VisionNames names = vision_names(form);
  std::vector<std::string> others = {"text_model.",
                                     "text_projection.",
                                     "visual_projection.",
                                     "logit_scale",
                                     "logit_bias",
                                     "vision_model.head.",
                                     "vision_model.embeddings.position_ids"};
  if (!form.siglip) {
    names.norm.clear();
    others.emplace_back("vision_model.post_layernorm.");
  }
  return std::make_unique<VisionFamilyModel>(input, vision_config(own, form), names, ImageReads::mean, others);
}

// The pair, one of its towers as a part of another model, or the classifier of images.
std::unique_ptr<Model> load_clip(const FamilyInput& input, const ClipForm& form) {
  if (input.part) return load_part(input, form);
  const ConfigValues values = config_of(input);
  if (!input.head.module.empty()) return load_classifier(input, values, form);
  const Tower image{.family = input.family, .config = part_of(values, "vision_config", form.image_defaults)};
  const Tower text{.family = input.family, .config = part_of(values, "text_config", form.text_defaults)};
  if (form.siglip) {
    const ConfigValues own(text.config, values.where() + ", \"text_config\"");
    if (Json(head_size(own)) != image.config["hidden_size"])
      own.refuse("projection_size", "vision_config's hidden_size");
    return load_two_towers(input, image, text, {.scale_dimensions = 1, .bias = true});
  }
  return load_two_towers(input, image, text, {.projection_dim = values.size_or("projection_dim", form.projection_dim)});
}

}  // namespace

FamilySpec clip_family(const std::string& name, const std::string& model_type, const ClipForm& form) {
  FamilySpec own{.model_type = model_type};
  own.load = [form](const FamilyInput& input) { return load_clip(input, form); };
  own.settled = [form](Json config) {  // of a tower that stands in another model
    const Json type = config.value("model_type", Json());
    if (type.is_string() && type.get<std::string>().ends_with("_vision_model"))
      return completed(config, form.image_defaults);
    if (type.is_string() && type.get<std::string>().ends_with("_text_model"))
      return completed(config, form.text_defaults);
    return config;
  };
  own.heads = {pair_head(name + "Model"), image_classifier(name)};
  own.word_embeddings = "text_model.embeddings.token_embedding";
  own.lora_target_modules = {"q_proj", "v_proj"};  // PEFT has none
  own.ia3_target_modules = {"k_proj", "v_proj", "mlp.fc2"};
  own.ia3_feedforward_modules = {"mlp.fc2"};
  own.sublayer_outputs = ".*\\.layers\\.\\d+\\.(self_attn\\.out_proj|mlp\\.fc2)";  // none of SigLIP's pooler
  own.feedforward_outputs = ".*\\.layers\\.\\d+\\.mlp\\.fc2";
  return own;
}

}  // namespace deltaw

// ViT (Dosovitskiy et al. 2020, arXiv:2010.11929): an image's class from the token in front of its patches.
#include "models/vision_encoder.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load_vit(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  VisionConfig config = VisionConfig::from_json(values, /*patch_size=*/16);
  config.intermediate_size = values.size("intermediate_size");
  return std::make_unique<VisionFamilyModel>(input, config, VisionNames{.base = "vit"}, ImageReads::first,
                                             std::vector<std::string>{"pooler.", "embeddings.mask_token", "decoder."});
}

}  // namespace

const FamilySpec& family_vit() {
  static const FamilySpec spec =
      vision_family({.model_type = "vit", .heads = {image_classifier("ViT")}, .load = load_vit});
  return spec;
}

}  // namespace deltaw

// DeiT (Touvron et al. 2020, arXiv:2012.12877): ViT with a second token, which another model taught. Its classifier
// reads the first one; the pair of classifiers that DeiTForImageClassificationWithTeacher has is passed over.
#include "models/vision_encoder.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load_deit(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  VisionConfig config = VisionConfig::from_json(values, /*patch_size=*/16);
  config.intermediate_size = values.size("intermediate_size");
  return std::make_unique<VisionFamilyModel>(
      input, config, VisionNames{.base = "deit", .tokens = {"cls_token", "distillation_token"}}, ImageReads::first,
      std::vector<std::string>{"pooler.", "embeddings.mask_token", "decoder.", "cls_classifier.",
                               "distillation_classifier."});
}

}  // namespace

const FamilySpec& family_deit() {
  static const FamilySpec spec =
      vision_family({.model_type = "deit", .heads = {image_classifier("DeiT")}, .load = load_deit});
  return spec;
}

}  // namespace deltaw

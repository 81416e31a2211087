// What DINOv2 (Oquab et al. 2023, arXiv:2304.07193) and its form with registers share: ViT with scaled sublayers, whose
// classifier reads the first token and the mean of the patches.
#pragma once

#include <memory>

#include "models/vision_encoder.h"

namespace deltaw {

/// `patch_size`: where config.json is silent.
std::unique_ptr<Model> load_dinov2(const FamilyInput& input, VisionNames names, int64_t patch_size,
                                   bool antialiased_positions);
/// `own` says where the family differs.
FamilySpec dinov2_family(FamilySpec own);

}  // namespace deltaw

// What DINOv2 (Oquab et al. 2023, arXiv:2304.07193) and its form with registers share: ViT with scaled sublayers, whose
// classifier reads the first token and the mean of the patches.
#pragma once

#include <memory>

#include "models/vision_encoder.h"

namespace deltaw {

/// `own` says where the family differs.
std::unique_ptr<Model> load_dinov2(const FamilyInput& input, VisionNames names, bool antialiased_positions);
FamilySpec dinov2_family(FamilySpec own);

}  // namespace deltaw

// DINOv2 (Oquab et al. 2023, arXiv:2304.07193).
#include "models/dinov2.h"

namespace deltaw {

const FamilySpec& family_dinov2() {
  static const FamilySpec spec = dinov2_family(
      {.model_type = "dinov2", .heads = {image_classifier("Dinov2")}, .load = [](const FamilyInput& input) {
         return load_dinov2(input, {.base = "dinov2"}, /*patch_size=*/14, /*antialiased_positions=*/false);
       }});
  return spec;
}

}  // namespace deltaw

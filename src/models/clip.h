// What CLIP and SigLIP share: two configurations in one config.json, two towers, heads for pairs and for images alone.
#pragma once

#include <memory>

#include "deltaw/family.h"
#include "models/clip_text.h"
#include "models/vision_encoder.h"

namespace deltaw {

struct ClipForm {
  Json image_defaults, text_defaults;  // of keys that vision_config and text_config may leave out
  bool siglip = false;                 // the layers and the poolers of SigLIP
  int64_t projection_dim = 512;        // where config.json is silent
};

/// The spec of such a family. It is loaded as the pair, as the classifier of images, or, where another model asks for
/// it, as one of the towers. `name`: of transformers' classes, "CLIP".
FamilySpec clip_family(const std::string& name, const std::string& model_type, const ClipForm& form);

}  // namespace deltaw

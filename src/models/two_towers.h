// An encoder of images and one of texts with projections into one space. Each tower is loaded by its own family, as a
// part of the model.
#pragma once

#include <memory>
#include <string>

#include "deltaw/family.h"
#include "deltaw/two_tower_model.h"
#include "models/family_input.h"

namespace deltaw {

struct Tower {
  const FamilySpec* family = nullptr;
  Json config;  // of the tower alone
};

/// A tower of texts that reads padding too, and so wants texts of one length.
class ReadsPadding {
 public:
  virtual ~ReadsPadding() = default;
  virtual int64_t text_length() const = 0;
};

struct TwoTowersForm {
  int64_t projection_dim = 0;    // 0: the poolers' outputs are not projected
  int64_t scale_dimensions = 0;  // of logit_scale, and of logit_bias where there is one: 1 for [1]
  bool bias = false;             // there is a logit_bias
};

/// Towers below `vision_model` and `text_model`, `visual_projection`, `text_projection`, `logit_scale`. Projections
/// that the checkpoint lacks are drawn, and must be trained. Throws config.unsupported for a tower of the wrong kind.
std::unique_ptr<Model> load_two_towers(const FamilyInput& input, const Tower& image, const Tower& text,
                                       const TwoTowersForm& form);

/// config.json of the family that pairs any two encoders, made of theirs (families/vision_text_dual_encoder.cpp).
Json pair_config(Json image, Json text, int64_t projection_dim, double logit_scale);

/// The family of a tower by its model_type, which may end in "_vision_model" or "_text_model"; null: there is none.
const FamilySpec* find_tower_family(const std::string& model_type);

/// The head for pairs of images and texts, without tensors of its own. `architecture`: "CLIPModel".
HeadSpec pair_head(const std::string& architecture = {});

}  // namespace deltaw

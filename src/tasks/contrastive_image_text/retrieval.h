// The captions that are nearest to images.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltaw/task_reader.h"
#include "tasks/common/tower_texts.h"

namespace deltaw::contrastive {

/// Of each image {"caption": the nearest, "scores": [{"caption", "score", "cosine"}, ...]}, the five nearest. Scores
/// are those of the model: they add up to 1 over all captions or, where it has a logit_bias, each stands alone. The
/// tensors are `image_embeds` [images, width] and `text_embeds` [captions, width], of length 1.
///
/// `texts` are `captions` as the model of `asked` reads them.
std::unique_ptr<Predictions> nearest_captions(const AskedModel& asked, const RowSource& images,
                                              std::vector<std::string> captions, const tasks::TowerTexts& texts,
                                              std::vector<Json> ids);

}  // namespace deltaw::contrastive

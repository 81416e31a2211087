// Classes as words: a class is where the sentences lie that name it (Radford et al. 2021, arXiv:2103.00020, 3.1.4).
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/tokenizer.h"
#include "deltaw/two_tower_model.h"
#include "tasks/common/tower_texts.h"

namespace deltaw::zero_shot {

/// The lines of a file that are not empty, each with {} in the place of the class. Throws config.template, with the
/// line, for one without, and io.*.
std::vector<std::string> read_templates(const std::filesystem::path& file);

/// The sentences of each class.
class ClassSentences {
 public:
  ClassSentences(const TwoTowerModel& model, const Tokenizer& tokenizer, const std::vector<std::string>& classes,
                 const std::vector<std::string>& templates);

  /// A vector of length 1 for each class, [classes, projection_dim] in float32 or wider: the mean of the unit vectors
  /// of its sentences, scaled to length 1. `adapter` may be null.
  Tensor embeds(const Adapter* adapter) const;

 private:
  const TwoTowerModel& model_;
  int64_t classes_;
  std::shared_ptr<const tasks::TowerTexts> texts_;
};

}  // namespace deltaw::zero_shot

// Pictures while a model is trained, by the keys of diffusers' training scripts and those of `generate`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/generate_images.h"
#include "deltaw/options.h"

namespace deltaw::noise {

struct ValidationKeys {
  ValidationKeys();

  std::string validation_prompt;
  int64_t num_validation_images = 0;  // 0: 4 where another key asks for pictures
  std::vector<std::string> validation_class_labels;
  int64_t validation_epochs = 0;  // 0: at each evaluation
  ImageOptions drawing;           // how; what is drawn stands above

  void fields(FieldVisitor& f);
  /// Whether there are to be pictures.
  bool any() const;
  /// Throws config.missing-key where nobody says what they show, config.conflict for a key that means nothing to the
  /// model, config.out-of-range for classes that it does not know.
  void check(bool reads_text, int64_t classes) const;
  /// How many pictures, when and of what, for people.
  std::string text() const;
  ImageOptions options(int64_t seed) const;

 private:
  int64_t count() const;
};

}  // namespace deltaw::noise

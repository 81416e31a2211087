#include "tasks/noise/validation.h"

#include <fmt/format.h>

#include "data/labels.h"
#include "deltaw/error.h"
#include "tasks/common/shown.h"

namespace deltaw::noise {
namespace {

constexpr int64_t kUsualImages = 4, kUsualSteps = 25;  // as diffusers' train_dreambooth_lora.py

}  // namespace

ValidationKeys::ValidationKeys() {
  drawing.sampler.num_inference_steps = kUsualSteps;
}

void ValidationKeys::fields(FieldVisitor& f) {
  f.field("validation_prompt", validation_prompt,
          "Draw pictures of this while the model is trained, of the same noise each time: validation-STEP/ in "
          "output_dir, at each evaluation and after the last step. The keys from scheduler on say how.");
  f.field("num_validation_images", num_validation_images,
          "How many; 0: 4 where validation_prompt, validation_class_labels or validation_epochs asks for pictures. A "
          "model that reads no text draws without a prompt.",
          at_least(0));
  f.field("validation_class_labels", validation_class_labels,
          "Their classes, by number, of a model of classes; empty: each in turn.");
  f.field("validation_epochs", validation_epochs,
          "Draw them every so many epochs, in place of at each evaluation; 0: at each evaluation.", at_least(0));
  drawing.sampling_fields(f);
}

bool ValidationKeys::any() const {
  return !validation_prompt.empty() || num_validation_images > 0 || !validation_class_labels.empty() ||
         validation_epochs > 0;
}

void ValidationKeys::check(bool reads_text, int64_t classes) const {
  if (!any()) return;
  if (reads_text && validation_prompt.empty()) {
    throw Error({.id = "config.missing-key",
                 .what = "nobody says what the pictures are to show that are drawn while the model is trained",
                 .where = "key 'validation_prompt'",
                 .fix = "say it: --validation_prompt \"a photo of sks dog\""});
  }
  if (!reads_text && !validation_prompt.empty()) {
    throw Error({.id = "config.conflict",
                 .what = "the model reads no text, and 'validation_prompt' means nothing to it",
                 .where = "key 'validation_prompt'",
                 .fix = "leave it out; --num_validation_images 4 draws pictures without a prompt"});
  }
  for (const std::string& text : validation_class_labels) {
    const auto number = data::class_number(text);
    if (number && *number < classes) continue;
    throw Error({.id = "config.out-of-range",
                 .what = fmt::format("'{}' is no class of the model", text),
                 .where = "key 'validation_class_labels'",
                 .fix = classes > 0 ? fmt::format("give numbers from 0 to {}", classes - 1)
                                    : "leave it out: the model knows no classes"});
  }
}

std::string ValidationKeys::text() const {
  const std::string when = validation_epochs > 0 ? fmt::format("every {} epochs", validation_epochs) : "at evaluations";
  return fmt::format("{} pictures {} and after the last step{}", count(), when,
                     validation_prompt.empty() ? "" : ": " + tasks::shortened(validation_prompt, 300));
}

int64_t ValidationKeys::count() const {
  return num_validation_images > 0 ? num_validation_images : kUsualImages;
}

ImageOptions ValidationKeys::options(int64_t seed) const {
  ImageOptions options = drawing;
  options.num_images = count();
  if (!validation_prompt.empty()) options.prompts = {validation_prompt};
  options.class_labels = validation_class_labels;
  options.seed = seed;
  return options;
}

}  // namespace deltaw::noise

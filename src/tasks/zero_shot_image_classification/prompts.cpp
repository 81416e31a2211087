#include "tasks/zero_shot_image_classification/prompts.h"

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/text_file.h"
#include "deltaw/error.h"
#include "tasks/common/hypothesis_template.h"
#include "tasks/common/losses.h"

namespace deltaw::zero_shot {
std::vector<std::string> read_templates(const std::filesystem::path& file) {
  std::vector<std::string> templates;
  each_line(read_utf8(file), [&](std::string_view line, int64_t number) {
    const std::string text(trimmed(line));
    if (text.empty()) return;
    tasks::check_template(text, fmt::format("{}, line {}", file.string(), number));
    templates.push_back(text);
  });
  if (!templates.empty()) return templates;
  throw Error({.id = "config.template",
               .what = "there is no template in the file",
               .where = file.string(),
               .fix = "write one on each line: a photo of a {}."});
}

ClassSentences::ClassSentences(const TwoTowerModel& model, const Tokenizer& tokenizer,
                               const std::vector<std::string>& classes, const std::vector<std::string>& templates)
    : model_(model), classes_(static_cast<int64_t>(classes.size())) {
  std::vector<std::string> sentences;
  for (const std::string& name : classes) {
    for (const std::string& text : templates) sentences.push_back(tasks::filled(text, name));
  }
  texts_ = std::make_shared<const tasks::TowerTexts>(sentences, tokenizer, model);
}

Tensor ClassSentences::embeds(const Adapter* adapter) const {
  const Tensor units = tasks::unit_text_embeds(model_, adapter, *texts_);
  return tasks::unit_rows(units.view({classes_, -1, units.size(1)}).mean(1));
}

}  // namespace deltaw::zero_shot

#include "run/shown.h"

#include <fmt/format.h>

#include <string_view>

#include "core/output_folder.h"
#include "deltaw/error.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kShownPrefix = "validation-";

std::string shown_name(int64_t step) {
  return fmt::format("{}{}", kShownPrefix, step);
}

}  // namespace

bool is_shown_folder(const std::string& name) {
  return name.starts_with(kShownPrefix) && name.size() > kShownPrefix.size() &&
         name.find_first_not_of("0123456789", kShownPrefix.size()) == std::string::npos;
}

Shown::Shown(const LoadedRun& run)
    : run_(run), schedule_(train::make_schedule(run.settings.train, run.train()->size())) {
  const auto* shows = dynamic_cast<const tasks::ShowsTraining*>(run.reader.get());
  if (shows && shows->shows()) shows_ = shows;
}

// What is left at the end is another step's adapter where the best one is loaded.
bool Shown::is_due(const TrainEvent& event) const {
  if (!shows_ || event.step == last_) return false;
  const int64_t epochs = shows_->show_epochs();
  switch (event.kind) {
    case TrainEvent::Kind::step:
      return epochs > 0 && schedule_.ends_epoch(event.step) && schedule_.epoch_of(event.step) % epochs == 0;
    case TrainEvent::Kind::eval:
      return epochs == 0;
    case TrainEvent::Kind::end:
      return !event.values.contains("signal") && !run_.settings.train.load_best_model_at_end;
    default:
      return false;
  }
}

fs::path Shown::after(const TrainEvent& event, const Warn& warn) {
  if (!is_due(event)) return {};
  last_ = event.step;
  const fs::path folder = run_.settings.train.output_dir;
  const std::string name = shown_name(event.step);
  try {
    add_to_folder(folder, [&](const fs::path& around) {
      fs::create_directory(around / name);
      shows_->show(*run_.model, *run_.adapter, around / name);
    });
    return folder / name;
  } catch (const Error& error) {
    if (error.id() != "config.output-foreign" && error.id() != "numeric.non-finite") throw;
    if (warn) warn(fmt::format("step {} is not shown: {}", event.step, error.what()));
    return {};
  }
}

}  // namespace deltaw::run

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "adapt/rank_allocator.h"
#include "deltaw/run.h"

namespace deltaw {
namespace {

// Published rates end a tenth of these or below: about 1e-2 for updates of weights, 0.3 for virtual tokens.
constexpr double kHighRate = 0.1, kHighTokenRate = 1;

/// The highest rate at which a tensor trains.
double highest_rate(const Adapter& adapter, double learning_rate) {
  double highest = 0;
  for (const NamedTensor& tensor : adapter.trained()) {
    const double rate = tensor.own_rate > 0 && learning_rate > 0 ? tensor.own_rate : tensor.rate * learning_rate;
    highest = std::max(highest, rate);
  }
  return highest;
}

std::optional<std::string> too_high_rate(const Adapter& adapter, double learning_rate) {
  const double rate = highest_rate(adapter, learning_rate);
  const bool only_tokens = adapter.parts().empty() && adapter.spec().on(ActsOn::virtual_tokens);
  if (rate <= (only_tokens ? kHighTokenRate : kHighRate)) return std::nullopt;
  return fmt::format(
      "learning_rate {:g} lets numbers of the adapter move by up to {:g} in every step, and training is likely to "
      "diverge; usual rates lie between 1e-5 and {}",
      learning_rate, rate, only_tokens ? "0.3" : "1e-2");
}

bool trains_what_was_pruned(const Adapter& adapter) {
  const auto& parts = adapter.parts();
  if (!parts.empty()) return std::any_of(parts.begin(), parts.end(), trains_what_was_pruned);
  return !adapter.frozen() && has_lost_components(adapter);
}

}  // namespace

std::vector<std::string> likely_mistakes(const LoadedRun& run) {
  const RunSettings& settings = run.settings;
  std::vector<std::string> found = run.warnings;
  for (std::string& sentence : run.reader->warnings(*run.model, &*run.adapter, settings.data)) {
    found.push_back(std::move(sentence));
  }
  if (auto sentence = too_high_rate(*run.adapter, settings.train.learning_rate)) found.push_back(std::move(*sentence));
  if (const MethodSpec& spec = find_method(settings.adapter.method); spec.likely_mistakes) {
    const Json options = spec.normalized(settings.adapter.options, "options");
    for (std::string& sentence : spec.likely_mistakes(options, settings.train.learning_rate))
      found.push_back(std::move(sentence));
  }
  if (settings.goes_on() && trains_what_was_pruned(*run.adapter)) {
    found.emplace_back(
        "the adapter lost rank components in the training before, which are not in its file: it goes on with "
        "those that are left");
  }
  if (settings.train.load_best_model_at_end && run.validation()->size() == 0) {
    found.emplace_back("load_best_model_at_end has no validation rows to choose by");
  }
  return found;
}

}  // namespace deltaw

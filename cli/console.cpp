#include "console.h"

#include <fmt/format.h>

#include "core/memory.h"
#include "output.h"

namespace deltaw::cli {
namespace {

/// The value of a number among the event's values, shown by `format`; nothing where it is absent.
std::string part(const Json& values, const char* key, const char* format) {
  const auto found = values.find(key);
  if (found == values.end() || !found->is_number()) return "";
  return fmt::format(fmt::runtime(format), found->get<double>());
}

std::string metrics_text(const Json& values) {
  std::string text;
  for (const auto& [key, value] : values.items()) {
    if (!key.starts_with("eval_") || !(value.is_number() || value.is_null())) continue;
    if (key.ends_with("_runtime") || key.ends_with("_per_second") || key.ends_with("_samples")) continue;
    text += "  " + key.substr(5) + " " + (value.is_null() ? "undefined" : fmt::format("{:.4f}", value.get<double>()));
  }
  return text;
}

}  // namespace

std::string Console::progress(const TrainEvent& event) {
  if (first_step_ < 0) {
    first_step_ = event.step;
    first_second_ = process_seconds();
  }
  std::string text = fmt::format("step {}/{}  epoch {:.2f}", event.step, event.max_steps, event.epoch);
  text += part(event.values, "loss", "  loss {:.4f}") + part(event.values, "learning_rate", "  lr {:.2e}");
  tokens_per_second_ = event.values.value("tokens_per_second", tokens_per_second_);
  if (tokens_per_second_ > 0) text += fmt::format("  {:.0f} tokens/s", tokens_per_second_);
  text += "  " + format_bytes(static_cast<double>(resident_memory_bytes()));
  if (event.step > first_step_) {
    const double per_step = (process_seconds() - first_second_) / static_cast<double>(event.step - first_step_);
    text += "  " + format_duration(per_step * static_cast<double>(event.max_steps - event.step)) + " left";
  }
  return text;
}

void Console::show(const TrainEvent& event) {
  using Kind = TrainEvent::Kind;
  const std::string line = event.kind == Kind::step || event.kind == Kind::log ? progress(event) : "";
  if (event.kind == Kind::step) status_.show(line);
  if (event.kind == Kind::log && !status_.on_terminal()) note(line + "\n");
  if (event.kind == Kind::eval) {
    status_.clear();
    note(fmt::format("evaluation at step {}{}\n", event.step, metrics_text(event.values)));
  }
  if (event.kind == Kind::save && !status_.on_terminal()) {
    note(fmt::format("checkpoint of step {} written\n", event.step));
  }
  if (event.kind == Kind::end) status_.clear();
}

}  // namespace deltaw::cli

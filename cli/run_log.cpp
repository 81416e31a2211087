#include "run_log.h"

#include <fmt/format.h>

#include "core/memory.h"
#include "core/output_folder.h"
#include "deltaw/error.h"
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

RunLog::RunLog(std::filesystem::path file) : path_(std::move(file)) {
  file_.open(path_, std::ios::app);
  if (!file_) {
    throw Error({.id = "io.write-failed",
                 .what = "the log cannot be opened for writing",
                 .where = path_.string(),
                 .fix = "check the folder's permissions and the free space"});
  }
}

RunLog::~RunLog() {
  file_.close();
  note_content(/*complete=*/true);
}

void RunLog::note_content(bool complete) {
  try {
    record_log(path_.parent_path(), path_.filename().string(), complete);
  } catch (const Error&) {  // it stays one that is appended to
  }
}

void RunLog::write(const Json& line) {
  file_ << to_line(line) << std::flush;
  if (file_) return;
  throw Error({.id = "io.write-failed",
               .what = "a line of the log could not be written",
               .where = path_.string(),
               .fix = "free space on that device"});
}

void RunLog::record(const std::string& kind, const Json& values) {
  Json line = {{"kind", kind}};
  for (const auto& [key, value] : values.items()) line[key] = value;
  write(line);
  if (lines_++ == 0) note_content(/*complete=*/false);
}

std::string RunLog::progress(const Moment& moment) {
  if (first_step_ < 0) {
    first_step_ = moment.step;
    first_second_ = process_seconds();
  }
  std::string text = fmt::format("step {}/{}  epoch {:.2f}", moment.step, moment.max_steps, moment.epoch);
  text += part(moment.values, "loss", "  loss {:.4f}") + part(moment.values, "learning_rate", "  lr {:.2e}");
  tokens_per_second_ = moment.values.value("tokens_per_second", tokens_per_second_);
  if (tokens_per_second_ > 0) text += fmt::format("  {:.0f} tokens/s", tokens_per_second_);
  text += "  " + format_bytes(static_cast<double>(resident_memory_bytes()));
  if (moment.step > first_step_) {
    const double per_step = (process_seconds() - first_second_) / static_cast<double>(moment.step - first_step_);
    text += "  " + format_duration(per_step * static_cast<double>(moment.max_steps - moment.step)) + " left";
  }
  return text;
}

void RunLog::show(const Moment& moment) {
  const std::string line = moment.kind == "step" || moment.kind == "log" ? progress(moment) : "";
  if (moment.kind == "step") {
    status_.show(line);
    return;
  }
  Json values = {{"step", moment.step}, {"epoch", moment.epoch}};
  for (const auto& [key, value] : moment.values.items()) values[key] = value;
  record(moment.kind, values);
  if (moment.kind == "log" && !status_.on_terminal()) note(line + "\n");
  if (moment.kind == "eval") {
    status_.clear();
    note(fmt::format("evaluation at step {}{}\n", moment.step, metrics_text(moment.values)));
  }
  if (moment.kind == "save" && !status_.on_terminal())
    note(fmt::format("checkpoint of step {} written\n", moment.step));
  if (moment.kind == "end") status_.clear();
}

}  // namespace deltaw::cli

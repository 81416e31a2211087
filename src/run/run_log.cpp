#include "run/run_log.h"

#include "core/json_text.h"
#include "core/output_folder.h"
#include "deltaw/error.h"

namespace deltaw::run {
namespace {

const char* kind_name(TrainEvent::Kind kind) {
  switch (kind) {
    case TrainEvent::Kind::step:
      return "step";
    case TrainEvent::Kind::log:
      return "log";
    case TrainEvent::Kind::eval:
      return "eval";
    case TrainEvent::Kind::save:
      return "save";
    default:
      return "end";
  }
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

void RunLog::record(const std::string& kind, const Json& values) {
  Json line = {{"kind", kind}};
  for (const auto& [key, value] : values.items()) line[key] = value;
  file_ << to_line(line) << std::flush;
  if (!file_) {
    throw Error({.id = "io.write-failed",
                 .what = "a line of the log could not be written",
                 .where = path_.string(),
                 .fix = "free space on that device"});
  }
  if (lines_++ == 0) note_content(/*complete=*/false);
}

void RunLog::record(const TrainEvent& event) {
  if (event.kind == TrainEvent::Kind::step) return;
  Json values = {{"step", event.step}, {"epoch", event.epoch}};
  for (const auto& [key, value] : event.values.items()) values[key] = value;
  record(kind_name(event.kind), values);
}

}  // namespace deltaw::run

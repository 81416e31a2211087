// The events of a run: on the console, and as JSON lines in the run's folder.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "core/progress.h"
#include "deltaw/options.h"

namespace deltaw::cli {

/// One event of the trainer.
struct Moment {
  std::string kind;  // step, log, eval, save, end
  int64_t step = 0;
  int64_t max_steps = 0;
  double epoch = 0;
  Json values;
};

class RunLog {
 public:
  /// Lines go to the end of `file`, which the manifest beside it knows.
  explicit RunLog(std::filesystem::path file);
  ~RunLog();  // after which it is complete

  void show(const Moment& moment);                           // both; a step only redraws the line of a terminal
  void record(const std::string& kind, const Json& values);  // the file alone

 private:
  void write(const Json& line);
  void note_content(bool complete);
  std::string progress(const Moment& moment);

  std::filesystem::path path_;
  std::ofstream file_;
  StatusLine status_;
  int64_t lines_ = 0;
  double tokens_per_second_ = 0;
  int64_t first_step_ = -1;
  double first_second_ = 0;
};

}  // namespace deltaw::cli

// log.jsonl: the events of a run, a line each.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "deltaw/train.h"

namespace deltaw::run {

class RunLog {
 public:
  /// Lines go to the end of `file`, which the manifest beside it knows.
  explicit RunLog(std::filesystem::path file);
  ~RunLog();  // after which it is complete

  void record(const std::string& kind, const Json& values);
  void record(const TrainEvent& event);  // steps alone are no lines

 private:
  void note_content(bool complete);

  std::filesystem::path path_;
  std::ofstream file_;
  int64_t lines_ = 0;
};

}  // namespace deltaw::run

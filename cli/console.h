// The events of a run on the console.
#pragma once

#include <string>

#include "core/progress.h"
#include "deltaw/train.h"

namespace deltaw::cli {

class Console {
 public:
  /// Lines to standard error; a step only redraws the line of a terminal.
  void show(const TrainEvent& event);

 private:
  std::string progress(const TrainEvent& event);

  StatusLine status_;
  double tokens_per_second_ = 0;
  int64_t first_step_ = -1;
  double first_second_ = 0;
};

}  // namespace deltaw::cli

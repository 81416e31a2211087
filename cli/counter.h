// How far a verb is, on one line of a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/progress.h"
#include "deltaw/progress.h"

namespace deltaw::cli {

/// "12 of 201 tensors  0:08 left"; nothing where standard error is no terminal.
class Counter {
 public:
  explicit Counter(std::string things) : things_(std::move(things)) {}

  /// Calls show() as long as this lives.
  Progress progress();
  void show(int64_t done, int64_t all);

 private:
  std::string things_;
  StatusLine line_;
  double begin_ = process_seconds();
};

}  // namespace deltaw::cli

// Ends a text at the first of several texts, wherever the pieces that it comes in are cut.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deltaw::eval {

class StopTexts {
 public:
  /// None of them may be empty.
  explicit StopTexts(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Adds to the text and returns what is certain now: all before the stop text that is complete first, less an end
  /// that may be the beginning of one. Nothing once one was found. What is not visible (special tokens) may complete a
  /// stop text and is never answered.
  std::string put(std::string_view piece, bool visible = true);
  /// What was held back: no more text comes.
  std::string end();
  bool found() const { return found_; }

 private:
  std::string take(size_t count);

  std::vector<std::string> stops_;
  std::string held_;
  std::vector<bool> visible_;  // of each byte that is held
  bool found_ = false;
};

}  // namespace deltaw::eval

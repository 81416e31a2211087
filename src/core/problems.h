// What is wrong with what was asked for, told all at once.
#pragma once

#include <functional>
#include <vector>

#include "deltaw/error.h"

namespace deltaw {

/// Errors as they are found; none is thrown before all are known.
class Problems {
 public:
  /// One that says the same as an earlier one is left out.
  void add(const Error& problem);
  /// Keeps what `check` throws. Returns whether it threw nothing.
  bool gather(const std::function<void()>& check);
  /// Throws what was gathered: one error as it is, several as one with the id of the first and the words of all.
  void settle() const;

 private:
  std::vector<Error> found_;
};

}  // namespace deltaw

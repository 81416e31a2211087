// Whether a run ended far above where it began.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "deltaw/train.h"

namespace deltaw::train {

/// The losses that has_diverged() looks at, step by step.
struct LossTrace {
  std::optional<double> first;
  std::vector<double> last;  // of some steps, the latest after

  void add(double loss);
  /// The median of the last steps, at most half of `steps`: single batches that are hard count for little. Nothing
  /// before the second step.
  std::optional<double> end(int64_t steps) const;
};

}  // namespace deltaw::train

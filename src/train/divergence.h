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
  std::vector<double> last;  // of some steps, the latest behind

  void add(double loss);
  /// The median of the last steps, at most half of `steps`: single batches that are hard count for little. Nothing
  /// before the second step.
  std::optional<double> end(int64_t steps) const;
};

/// The loss of one who guesses: every class or token alike, or 0 for every score.
double chance_loss(const Model& model, const std::vector<EncodedRow>& rows);

}  // namespace deltaw::train

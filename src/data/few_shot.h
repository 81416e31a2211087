// Training on few rows, some of each class, and on them several times an epoch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/options.h"

namespace deltaw::data {

struct FewShot {
  double train_samples_per_class = 0;  // below 1: a share; 0: all
  int64_t min_train_samples = 0;

  void fields(FieldVisitor& f);

  /// Leaves train_samples_per_class rows of each class, at least one, drawn by a permutation that depends on seed and
  /// class alone: the rows of fewer shots are among those of more. They keep their order. Then repeats them all until
  /// there are min_train_samples or more. Throws config.out-of-range for 2.5, config.conflict where rows have not one
  /// class each. `warnings` takes which classes have too few.
  void apply(Dataset& train, const LabelSet& labels, uint64_t seed, std::vector<std::string>& warnings) const;
};

}  // namespace deltaw::data

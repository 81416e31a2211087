// What the layers of a base model see of calibration rows, for starts that follow from data.
#pragma once

#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"

namespace deltaw {

/// Runs the base model over the batches, dropouts off, and tells what each of `layers` saw; with
/// Observations::gradients the gradients of their loss too. Throws config.no-embedding for a layer that is a table, and
/// numeric.non-finite.
std::vector<Observed> observe(const Model& model, const std::vector<const Layer*>& layers, Observations what,
                              const std::vector<CalibrationBatch>& batches);

}  // namespace deltaw

// The memory that a run will take at its peak, from the sizes of what the engine keeps.
#pragma once

#include "load.h"

namespace deltaw::cli {

/// base_bytes, adapter_bytes (with the optimiser's moments), activation_bytes (with gradients) and program_bytes, with
/// dequantised_bytes where weights are quantised, formed_bytes where W is kept for several micro-batches, and
/// total_bytes, their sum. For a batch of the longest rows.
Json memory_estimate(const Setup& setup, const Run& run);

}  // namespace deltaw::cli

// Whether an exported LoRA is what it was to be.
#pragma once

#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

/// Fills in the report of `written`, which was read back: the product of each layer's factors is as far from the
/// adapter's update (adapt/intended.h) as `cut` says, a share of its norm for each layer, and everything beside the
/// factors is the adapter's own; report.exact: the logits are, too.
void check_exported(ExportReport& report, const Adapter& adapter, const Adapter& written,
                    const std::vector<double>& cut, const Probe& probe);

}  // namespace deltaw

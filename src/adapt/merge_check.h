// Whether a merged checkpoint is base and adapter.
#pragma once

#include <filesystem>
#include <optional>

#include "deltaw/adapter.h"

namespace deltaw {

/// Reads `folder` and fills in the report. `original` holds the checkpoint's own tensors in float32 or wider, with the
/// head and the vocabulary of the adapter. Checked are
///   every tensor: the intended one (adapt/intended.h) rounded once to the type it is stored in; where the adapter
///     changes nothing, the original's;
///   the intended tensors: columns of each changed layer against the operation that the models run;
///   the folder as a whole: it computes what the original's model computes with these tensors; and where nothing is
///     stored in 16 bits, what base and adapter compute.
/// What rounding costs is measured and no fault. `stored`: a type in place of the original's. `progress` is told of
/// every tensor.
void check_merged(MergeReport& report, const Adapter& adapter, const Model& original,
                  const std::filesystem::path& folder, const Probe& probe, std::optional<at::ScalarType> stored = {},
                  const Progress& progress = {});

}  // namespace deltaw

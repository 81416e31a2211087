// Which rows validation_split sets aside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::data {

/// Whether validation takes its rows from those of training: validation_split is set, and there is no file of its own.
bool holds_out(const DataOptions& options);
/// Whether there are rows of validation at all.
bool has_validation(const DataOptions& options);

/// round(fraction * rows) rows are true, at least one on either side, by a permutation that depends on seed and number
/// of rows alone. Throws data.too-few-rows, naming `file`, below two rows.
std::vector<bool> held_out(size_t rows, double fraction, uint64_t seed, const std::filesystem::path& file);

}  // namespace deltaw::data

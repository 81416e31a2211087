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

/// Throws config.conflict for a number of rows where there are none to count.
void refuse_count(double share, const std::filesystem::path& file);

/// round(share * rows) rows are true, at least one on either side, or `share` rows where it is 1 or more, by a
/// permutation that depends on seed and number of rows alone. Throws data.too-few-rows, naming `file`, below two rows
/// and where no row would be left, config.out-of-range for 1 and 2.5.
std::vector<bool> held_out(size_t rows, double share, uint64_t seed, const std::filesystem::path& file);

}  // namespace deltaw::data

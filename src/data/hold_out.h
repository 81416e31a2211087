// Which rows validation_split sets aside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace deltaw::data {

/// round(fraction * rows) rows are true, at least one on either side, by a permutation that depends on seed and number
/// of rows alone. Throws data.too-few-rows, naming `file`, below two rows.
std::vector<bool> held_out(size_t rows, double fraction, uint64_t seed, const std::filesystem::path& file);

}  // namespace deltaw::data

// TSV as GLUE has it (tabs separate, nothing is quoted) and CSV of RFC 4180.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/table.h"

namespace deltaw::data {

// `text` is UTF-8 without a byte-order mark. Blank lines are no rows; an empty field in quotes is one.
Table read_tsv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns);
Table read_csv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns);

}  // namespace deltaw::data

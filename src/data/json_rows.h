// Rows that are objects: JSON, one a line or in an array, and files of columns.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "data/table.h"

namespace deltaw::data {

/// Takes a row, its number in the file, and how an error names it: "train.jsonl, line 12".
using TakeRow = std::function<void(Json& row, int64_t line, const std::string& where)>;

/// Calls `take` with every object of a JSON array or of JSON lines; `text` is UTF-8 without a byte-order mark. Returns
/// what their numbers count, "item" or "line". Throws format.json-line.
std::string each_json_object(const std::filesystem::path& file, std::string_view text, const TakeRow& take);
Table read_json_rows(const std::filesystem::path& file, std::string_view text);

/// The same of a Parquet or Arrow file, which are "row"s and may be none.
std::string each_column_row(const std::filesystem::path& file, Format format, const TakeRow& take);
Table read_column_rows(const std::filesystem::path& file, Format format);

}  // namespace deltaw::data

// JSON text to values, with line and column in every complaint.
#pragma once

#include <string>
#include <string_view>

#include "deltaw/options.h"

namespace deltaw {

enum class DuplicateKeys {
  last_wins,  // as Python reads
  refuse,
};

/// Parses one JSON document of at most 512 nested levels. Throws format.json naming `where` (a file) with line and
/// column, and format.duplicate-key where those are refused. Linear in the length of the text, also for objects with
/// many keys (a vocabulary), which nlohmann's own parser reads in quadratic time into JSON that keeps its order.
Json parse_json(std::string_view text, const std::string& where, DuplicateKeys duplicates = DuplicateKeys::last_wins);

/// The same into JSON that sorts its keys, where a later key replaces an earlier one: for vocabularies, which are
/// searched.
nlohmann::json parse_sorted_json(std::string_view text, const std::string& where);

/// The value as a message shows it: short, in one line.
std::string shown(const Json& value);

/// "line 3, column 7" of the byte at `offset`, both from 1, columns in bytes.
std::string line_and_column(std::string_view text, size_t offset);

}  // namespace deltaw

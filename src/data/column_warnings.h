// Columns that look as if they stood for something else.
#pragma once

#include <optional>
#include <string>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

/// A sentence where the columns of labels and texts look swapped, or nearly every row is a class of its own.
std::optional<std::string> column_warning(const Table& table, size_t text, size_t label, const LabelSet& labels);

}  // namespace deltaw::data

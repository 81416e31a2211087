// From the label column to class numbers and scores.
#pragma once

#include <optional>
#include <string_view>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

/// The whole of `text` as a finite number; blanks around it do not count.
std::optional<double> parse_number(std::string_view text);

/// Without blanks at either end.
std::string_view trimmed(std::string_view text);

/// The set that the options or the task name, else that of the table's column.
LabelSet choose_labels(const DataOptions& options, const Task* task, const Table& table, size_t column);

/// Class number or score of one row.
double label_value(const LabelSet& labels, const Table& table, const Row& row, size_t column);

}  // namespace deltaw::data

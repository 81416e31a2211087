// From the label column to class numbers and scores.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/table.h"
#include "deltaw/data.h"

namespace deltaw::data {

/// The cell that holds the row's label. Throws data.missing-label.
const Cell& label_cell(const Table& table, const Row& row, size_t column);

/// The whole of `text` as a finite number; blanks around it do not count.
std::optional<double> parse_number(std::string_view text);

/// A label by its value: "1" for 1.0, 1.00 and 1; any other text as it is, 007 too.
std::string canonical_label(std::string_view text);

/// `text` as a class number: a whole number from 0.
std::optional<int64_t> class_number(std::string_view text);

/// Equal but for ASCII capitals.
bool same_but_for_case(std::string_view a, std::string_view b);

/// Whether these are LABEL_0, LABEL_1 ..., which transformers writes where nobody named the classes.
bool are_default_names(const std::vector<std::string>& names);

/// The first of them with commas between them, for messages.
std::string listed(const std::vector<std::string>& names);

/// That the numbers in a column are read as class numbers, with what the first of them mean: a warning.
std::string taken_as_classes(const std::string& column, const std::vector<std::string>& names,
                             const std::filesystem::path& file);

/// Class number or score of one row.
double label_value(const LabelSet& labels, const Table& table, const Row& row, size_t column);

/// The classes of a row that may have several: the items of a list, or what stands between commas.
std::vector<Cell> several_labels(const Table& table, const Row& row, size_t column);
/// 1 for each class that the row has, else 0: [classes].
std::vector<double> label_values(const LabelSet& labels, const Table& table, const Row& row, size_t column);

}  // namespace deltaw::data

#include "data/column_warnings.h"

#include <set>
#include <string_view>

#include <fmt/format.h>

namespace deltaw::data {
namespace {

struct Look {
  size_t distinct = 0;
  double length = 0;  // of the mean cell, in bytes
};

Look look_at(const Table& table, size_t column) {
  std::set<std::string_view> values;
  size_t bytes = 0;
  for (const Row& row : table.rows) {
    const std::string& text = row.cell(column).text;
    values.insert(text);
    bytes += text.size();
  }
  return {values.size(), static_cast<double>(bytes) / static_cast<double>(table.rows.size())};
}

}  // namespace

std::optional<std::string> column_warning(const Table& table, size_t text, size_t label, const LabelSet& labels) {
  if (labels.regression || labels.multi_label || table.rows.size() < 3) return std::nullopt;
  const Look texts = look_at(table, text), names = look_at(table, label);
  const std::string &text_name = table.columns[text], &label_name = table.columns[label];
  if (names.distinct >= 2 * texts.distinct && names.length > 2 * texts.length) {
    return fmt::format(
        "columns '{}' and '{}' look swapped: the labels are {} different texts, the texts {} different words; "
        "text_column and label_column name them ({})",
        text_name, label_name, names.distinct, texts.distinct, table.file.string());
  }
  const bool many = table.rows.size() >= 20 && 2 * names.distinct > table.rows.size();
  if (names.distinct < table.rows.size() && !many) return std::nullopt;
  return fmt::format(
      "there are {} classes in {} rows, so hardly anything can be learned from column '{}'; label_column names another "
      "one, and problem_type regression trains on scores ({})",
      names.distinct, table.rows.size(), label_name, table.file.string());
}

}  // namespace deltaw::data

#include "data/labels.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "deltaw/error.h"

namespace deltaw::data {
namespace {

bool is_class_number(std::string_view text) {
  return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// A JSON string is never a number, however it looks.
std::optional<double> number_of(const Cell& cell) {
  return cell.kind == Cell::Kind::text ? std::nullopt : parse_number(cell.text);
}

const Cell& label_cell(const Table& table, const Row& row, size_t column) {
  const Cell& cell = row.cell(column);
  const bool absent = cell.kind == Cell::Kind::missing || cell.kind == Cell::Kind::nested;
  if (!absent && !trimmed(cell.text).empty()) return cell;
  throw Error{{.id = "data.missing-label",
               .what = fmt::format("the row has no label in column '{}'", table.columns[column]),
               .where = table.where(row),
               .fix = "Give the row a label (a string or a number) or remove it."}};
}

std::vector<std::string> sorted_names(const std::set<std::string>& names, bool by_number) {
  std::vector<std::string> sorted(names.begin(), names.end());
  if (by_number) {
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return *parse_number(a) < *parse_number(b); });
  }
  return sorted;
}

LabelSet labels_of_column(const DataOptions& options, const Table& table, size_t column) {
  std::set<std::string> names;
  bool all_numbers = true;
  bool any_fraction = false;
  for (const Row& row : table.rows) {
    const Cell& cell = label_cell(table, row, column);
    const std::string_view text = trimmed(cell.text);
    names.emplace(text);
    all_numbers = all_numbers && number_of(cell).has_value();
    any_fraction = any_fraction || text.find_first_of(".eE") != std::string_view::npos;
  }
  if (options.problem_type == "auto" && all_numbers && any_fraction) return {.regression = true};
  if (names.size() < 2) {
    throw Error{{.id = "data.one-label",
                 .what = fmt::format("every row has the same label, '{}'", clipped(*names.begin())),
                 .where = fmt::format("{}, column '{}'", table.file.string(), table.columns[column]),
                 .fix = "Set label_column to another column, or list all classes in label_names."}};
  }
  return {.regression = false, .names = sorted_names(names, all_numbers)};
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::optional<double> parse_number(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

LabelSet choose_labels(const DataOptions& options, const Task* task, const Table& table, size_t column) {
  if (options.problem_type == "regression") return {.regression = true};
  if (!options.label_names.empty()) {
    const std::set<std::string> distinct(options.label_names.begin(), options.label_names.end());
    if (distinct.size() == options.label_names.size() && distinct.size() > 1) {
      return {.regression = false, .names = options.label_names};
    }
    throw Error{{.id = "config.label-names",
                 .what = fmt::format("label_names needs two or more different names; it is {}",
                                     fmt::join(options.label_names, ", ")),
                 .where = "label_names",
                 .fix = "List every class once, in the order of the logits."}};
  }
  if (task != nullptr && !task->labels.empty()) return {.regression = false, .names = task->labels};
  if (task != nullptr && options.problem_type == "auto") return {.regression = true};
  return labels_of_column(options, table, column);
}

double label_value(const LabelSet& labels, const Table& table, const Row& row, size_t column) {
  const Cell& cell = label_cell(table, row, column);
  if (labels.regression) {
    if (const auto score = parse_number(cell.text)) return *score;
    throw Error{{.id = "data.not-a-number",
                 .what = fmt::format("the score '{}' is not a finite number", clipped(cell.text)),
                 .where = fmt::format("{}, column '{}'", table.where(row), table.columns[column]),
                 .fix = "Mend the row; for named classes set problem_type to single_label_classification."}};
  }
  if (const auto found = labels.find(trimmed(cell.text))) return static_cast<double>(*found);
  throw Error{{.id = "data.unknown-label",
               .what = fmt::format("the label '{}' is not in the set {{{}}}", clipped(trimmed(cell.text)),
                                   fmt::join(labels.names, ", ")),
               .where = fmt::format("{}, column '{}'", table.where(row), table.columns[column]),
               .fix = fmt::format("Mend the row, or name every class in label_names: {}",
                                  suggest_names(std::string(trimmed(cell.text)), labels.names))}};
}

}  // namespace deltaw::data

namespace deltaw {

std::optional<int64_t> LabelSet::find(std::string_view label) const {
  const auto found = std::find(names.begin(), names.end(), label);
  if (found != names.end()) return found - names.begin();
  if (!data::is_class_number(label) || std::any_of(names.begin(), names.end(), data::is_class_number)) {
    return std::nullopt;
  }
  int64_t number = 0;
  std::from_chars(label.data(), label.data() + label.size(), number);
  return number < outputs() ? std::optional(number) : std::nullopt;
}

}  // namespace deltaw

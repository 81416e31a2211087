#include "data/labels.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/suggest.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

constexpr std::string_view kDigits = "0123456789";

/// Digits, with a point and more of them perhaps, after a sign perhaps; no zeros before it.
bool is_plain_number(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  const size_t digits = std::min(text.find_first_not_of(kDigits), text.size());
  if (digits == 0 || (digits > 1 && text[0] == '0')) return false;
  text.remove_prefix(digits);
  return text.empty() || (text[0] == '.' && text.find_first_not_of(kDigits, 1) == std::string_view::npos);
}

int64_t class_of(const LabelSet& labels, const Table& table, const Row& row, size_t column, std::string_view text) {
  if (const auto found = labels.find(trimmed(text))) return *found;
  throw Error{
      {.id = "data.unknown-label",
       .what = fmt::format("the label '{}' is not in the set {{{}}}", clipped(trimmed(text)), listed(labels.names)),
       .where = fmt::format("{}, column '{}'", table.where(row), table.columns[column]),
       .fix = suggest_names(std::string(trimmed(text)), labels.names,
                            "Mend the row, or name every class in label_names.")}};
}

/// [1, 1, 0] does not list classes: it says of each whether the row has it.
void check_distinct(const Table& table, const Row& row, size_t column) {
  std::set<std::string> seen;
  for (const Cell& item : row.cell(column).items) {
    const std::string name(trimmed(item.text));
    if (seen.insert(canonical_label(name)).second) continue;
    throw Error{{.id = "data.several-labels",
                 .what = fmt::format("the label in column '{}' is a list that names '{}' twice", table.columns[column],
                                     clipped(name)),
                 .where = table.where(row),
                 .fix = "List the classes that the row has, by name, once each: [\"sport\", \"news\"]."}};
  }
}

}  // namespace

const Cell& label_cell(const Table& table, const Row& row, size_t column) {
  const Cell& cell = row.cell(column);
  if (!is_nested(cell) && cell.kind != Cell::Kind::missing && !trimmed(cell.text).empty()) return cell;
  if (is_nested(cell)) {
    throw Error{{.id = "data.several-labels",
                 .what = fmt::format("the label in column '{}' is {}", table.columns[column], cell.text),
                 .where = table.where(row),
                 .fix = cell.kind == Cell::Kind::list
                            ? "Give the row one label, a string or a number; or set problem_type to "
                              "multi_label_classification, where every row has a list."
                            : "Give the row one label, a string or a number, or a list of them."}};
  }
  throw Error{{.id = "data.missing-label",
               .what = is_null(cell) ? fmt::format("the label in column '{}' is null", table.columns[column])
                                     : fmt::format("the row has no label in column '{}'", table.columns[column]),
               .where = table.where(row),
               .fix = "Give the row a label (a string or a number) or remove it."}};
}

std::optional<double> parse_number(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string canonical_label(std::string_view text) {
  std::string number(text);
  const size_t exponent = text.find_first_of("eE");
  if (exponent != std::string_view::npos && is_plain_number(text.substr(0, exponent))) {
    const auto value = parse_number(text);
    if (value && std::abs(*value) < 1e15) number = fmt::format("{}", *value);
  }
  if (!is_plain_number(number)) return number;
  if (number.find('.') != std::string::npos) {
    number.erase(number.find_last_not_of('0') + 1);
    if (number.back() == '.') number.pop_back();
  }
  return number == "-0" ? "0" : number;
}

std::optional<int64_t> class_number(std::string_view text) {
  const std::string number = canonical_label(text);
  if (number.empty() || number.size() > 9 || number.find_first_not_of(kDigits) != std::string::npos) {
    return std::nullopt;
  }
  int64_t value = 0;
  std::from_chars(number.data(), number.data() + number.size(), value);
  return value;
}

bool same_but_for_case(std::string_view a, std::string_view b) {
  return lower(a) == lower(b);
}

std::string taken_as_classes(const std::string& column, const std::vector<std::string>& names,
                             const std::filesystem::path& file) {
  std::vector<std::string> meanings;
  for (size_t i = 0; i < names.size() && i < 3; ++i)
    meanings.push_back(fmt::format("{} is '{}'", i, clipped(names[i])));
  return fmt::format("the numbers in column '{}' are taken as class numbers: {}{} ({})", column,
                     fmt::join(meanings, ", "), names.size() > 3 ? " ..." : "", file.string());
}

bool are_default_names(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] != fmt::format("LABEL_{}", i)) return false;
  }
  return true;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 12;
  std::vector<std::string> shown;
  for (size_t i = 0; i < names.size() && i < kMost; ++i) shown.push_back(clipped(names[i]));
  return fmt::format("{}{}", fmt::join(shown, ", "),
                     names.size() > kMost ? fmt::format(" ... ({} in all)", names.size()) : "");
}

std::vector<Cell> several_labels(const Table& table, const Row& row, size_t column) {
  const Cell& cell = row.cell(column);
  if (cell.kind == Cell::Kind::list) {
    check_distinct(table, row, column);
    return cell.items;
  }
  std::vector<Cell> items;
  if (cell.kind == Cell::Kind::bare) {  // an empty one has no label
    std::string_view rest = cell.text;
    while (!trimmed(rest).empty()) {
      const size_t comma = std::min(rest.find(','), rest.size());
      items.push_back({Cell::Kind::bare, std::string(trimmed(rest.substr(0, comma)))});
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    return items;
  }
  return {label_cell(table, row, column)};
}

std::vector<double> label_values(const LabelSet& labels, const Table& table, const Row& row, size_t column) {
  std::vector<double> values(labels.names.size());
  for (const Cell& item : several_labels(table, row, column)) {
    values[static_cast<size_t>(class_of(labels, table, row, column, item.text))] = 1;
  }
  return values;
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
  return static_cast<double>(class_of(labels, table, row, column, cell.text));
}

}  // namespace deltaw::data

namespace deltaw {

const char* LabelSet::problem_type() const {
  if (regression) return "regression";
  return multi_label ? "multi_label_classification" : "single_label_classification";
}

std::optional<int64_t> LabelSet::find_name(std::string_view label) const {
  const auto position = [&](const auto& fits) -> std::optional<int64_t> {
    const auto found = std::find_if(names.begin(), names.end(), fits);
    return found == names.end() ? std::nullopt : std::optional<int64_t>(found - names.begin());
  };
  if (const auto same = position([&](const std::string& name) { return name == label; })) return same;
  const std::string value = data::canonical_label(label);
  if (const auto equal = position([&](const std::string& name) { return data::canonical_label(name) == value; })) {
    return equal;
  }
  const auto number = task_names.empty() ? std::nullopt : data::class_number(label);
  for (size_t i = 0; i < task_names.size(); ++i) {
    if (task_names[i] != label && number != static_cast<int64_t>(i)) continue;
    return position([&](const std::string& name) { return data::same_but_for_case(name, task_names[i]); });
  }
  return std::nullopt;
}

std::optional<int64_t> LabelSet::find(std::string_view label) const {
  if (const auto named = find_name(label)) return named;
  const auto number = data::class_number(label);
  const bool numbered = std::any_of(names.begin(), names.end(),
                                    [](const std::string& name) { return data::parse_number(name).has_value(); });
  return number && !numbered && *number < outputs() ? number : std::nullopt;
}

}  // namespace deltaw

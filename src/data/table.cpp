#include "data/table.h"
#include "data/delimited.h"
#include "data/json_rows.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "core/suggest.h"
#include "core/text_file.h"
#include "data/find_files.h"
#include "deltaw/error.h"
#include "deltaw/options.h"

namespace deltaw::data {
namespace {

void check_columns(const Table& table) {
  std::set<std::string> seen;
  for (const std::string& name : table.columns) {
    if (seen.insert(name).second) continue;
    throw Error{{.id = "format.duplicate-column",
                 .what = fmt::format("two columns are named '{}'", clipped(name)),
                 .where = fmt::format("{}, the header line", table.file.string()),
                 .fix = "Give every column its own name; the first line must be the header."}};
  }
}

Table read_one(const std::filesystem::path& file, const std::vector<std::string>& columns,
               const std::string& encoding) {
  const Format format = format_of(file);
  if (is_of_columns(format)) return read_column_rows(file, format);
  if (format == Format::unknown || format == Format::text || format == Format::tagged) {
    refuse_format(file, "Use .tsv (tabs, no quoting), .csv, .jsonl, .json, .parquet or .arrow.");
  }
  const std::string text = read_text(file, encoding);
  return format == Format::json  ? read_json_rows(file, text)
         : format == Format::tsv ? read_tsv(file, text, columns)
                                 : read_csv(file, text, columns);
}

[[noreturn]] void refuse_empty(const Table& table) {
  throw Error{{.id = "data.empty-file",
               .what = table.columns.empty() ? "the file is empty" : "the file has a header line but no rows",
               .where = table.file.string(),
               .fix = "Check the path, and that the file was written to its end."}};
}

/// The rows of `more` behind those of `all`, its cells where the columns of their names stand.
void append(Table& all, Table more) {
  std::vector<size_t> places;
  for (std::string& name : more.columns) {
    const auto found = std::find(all.columns.begin(), all.columns.end(), name);
    places.push_back(static_cast<size_t>(found - all.columns.begin()));
    if (found == all.columns.end()) all.columns.push_back(std::move(name));
  }
  bool same = true;
  for (size_t i = 0; i < places.size(); ++i) same = same && places[i] == i;
  for (Row& row : more.rows) {
    row.source = all.sources.size();
    if (!same) {
      std::vector<Cell> cells(all.columns.size());
      for (size_t i = 0; i < row.cells.size(); ++i) cells[places[i]] = std::move(row.cells[i]);
      row.cells = std::move(cells);
    }
    all.rows.push_back(std::move(row));
  }
  all.sources.push_back({std::move(more.file), std::move(more.unit)});
}

}  // namespace

bool is_unnamed(std::string_view column) {
  if (!column.starts_with(kUnnamed)) return false;
  const std::string_view number = column.substr(kUnnamed.size());
  return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_null(const Cell& cell) {
  return cell.kind == Cell::Kind::missing && cell.text == "null";
}

bool is_nested(const Cell& cell) {
  return cell.kind == Cell::Kind::list || cell.kind == Cell::Kind::nested;
}

const Cell& Row::cell(size_t column) const {
  static const Cell missing;
  return column < cells.size() ? cells[column] : missing;
}

std::string Table::where(const Row& row) const {
  if (row.source >= sources.size()) return fmt::format("{}, {} {}", file.string(), unit, row.line);
  return fmt::format("{}, {} {}", sources[row.source].file.string(), sources[row.source].unit, row.line);
}

bool Table::has(const std::string& column) const {
  return std::find(columns.begin(), columns.end(), column) != columns.end();
}

size_t Table::column(const std::string& name, const std::string& option) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found != columns.end()) return static_cast<size_t>(found - columns.begin());
  throw Error{{.id = "config.missing-column",
               .what = fmt::format("there is no column '{}'; the columns are {}", name, fmt::join(columns, ", ")),
               .where = file.string(),
               .fix = suggest_names(name, columns, fmt::format("Set {} to a column of the file.", option))}};
}

std::string clipped(std::string_view text) {
  constexpr size_t kMost = 60;
  if (text.size() <= kMost) return std::string(text);
  size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a code point
  return std::string(text.substr(0, end)) + "...";
}

Table read_table(const DataFiles& files, const std::vector<std::string>& columns, const std::string& encoding) {
  const std::vector<std::filesystem::path> paths = find_files(files);
  const bool several = paths.size() > 1;
  Table all;
  for (const std::filesystem::path& path : paths) {
    Table table = read_one(path, columns, encoding);
    if (table.rows.empty() && !(several && is_of_columns(format_of(path)))) refuse_empty(table);
    check_columns(table);
    if (!several) return table;
    append(all, std::move(table));
  }
  all.file = name_of(paths);
  if (all.rows.empty()) refuse_empty(all);
  return all;
}

}  // namespace deltaw::data

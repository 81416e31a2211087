#include "data/table.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "core/suggest.h"
#include "core/text_file.h"
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

}  // namespace

bool is_unnamed(std::string_view column) {
  if (!column.starts_with(kUnnamed)) return false;
  const std::string_view number = column.substr(kUnnamed.size());
  return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string ending_of(const std::filesystem::path& file) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(file, ignored);
  if (status.type() == std::filesystem::file_type::not_found) {
    throw Error{{.id = "config.not-found",
                 .what = "there is no such file",
                 .where = file.string(),
                 .fix = "Correct the path."}};
  }
  if (std::filesystem::is_directory(status)) {
    throw Error{{.id = "config.file-format",
                 .what = "this is a folder, and rows are read from one file",
                 .where = file.string(),
                 .fix = "Give the file in it."}};
  }
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return ending;
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
  return fmt::format("{}, {} {}", file.string(), unit, row.line);
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

Table read_table(const std::filesystem::path& file, const std::vector<std::string>& columns,
                 const std::string& encoding) {
  const std::string ending = ending_of(file);
  const bool json = ending == ".jsonl" || ending == ".json";
  if (!json && ending != ".tsv" && ending != ".csv") {
    throw Error{
        {.id = "config.file-format",
         .what = ending.empty() ? "the file has no ending" : fmt::format("files ending in '{}' are not read", ending),
         .where = file.string(),
         .fix = "Use .tsv (tabs, no quoting), .csv, .jsonl or .json."}};
  }
  const std::string text = read_text(file, encoding);
  Table table = json               ? read_json_rows(file, text)
                : ending == ".tsv" ? read_tsv(file, text, columns)
                                   : read_csv(file, text, columns);
  if (table.rows.empty()) {
    throw Error{{.id = "data.empty-file",
                 .what = table.columns.empty() ? "the file is empty" : "the file has a header line but no rows",
                 .where = file.string(),
                 .fix = "Check the path, and that the file was written to its end."}};
  }
  check_columns(table);
  return table;
}

}  // namespace deltaw::data

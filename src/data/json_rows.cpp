#include "data/json_rows.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/json.h"
#include "core/text_file.h"
#include "deltaw/error.h"
#include "deltaw/options.h"
#include "io/column_file.h"

namespace deltaw::data {
namespace {

Cell to_cell(const Json& value) {
  if (value.is_string()) return {Cell::Kind::text, value.get<std::string>()};
  if (value.is_boolean()) return {Cell::Kind::text, value.get<bool>() ? "true" : "false"};
  if (value.is_number()) return {Cell::Kind::number, value.dump()};
  if (value.is_null()) return {Cell::Kind::missing, "null"};
  if (value.is_binary()) return {Cell::Kind::nested, "bytes that are no text"};
  Cell cell{Cell::Kind::nested, value.is_array() ? "a list" : "an object"};
  if (!value.is_array()) return cell;
  for (const Json& item : value) {
    if (item.is_structured() || item.is_null() || item.is_binary()) return cell;
    cell.items.push_back(to_cell(item));
  }
  cell.kind = Cell::Kind::list;
  return cell;
}

void check_object(const Json& object, const std::string& where) {
  if (object.is_object()) return;
  throw Error{{.id = "format.json-line",
               .what = fmt::format("expected an object, found {}", object.type_name()),
               .where = where,
               .fix = "Write each row as one object: {\"text\": \"...\", \"label\": \"...\"}"}};
}

void add_row(Table& table, const Json& object, int64_t line) {
  Row row{.line = line, .cells = {}};
  for (const auto& [key, value] : object.items()) {
    const auto found = std::find(table.columns.begin(), table.columns.end(), key);
    const auto column = static_cast<size_t>(found - table.columns.begin());
    if (found == table.columns.end()) table.columns.push_back(key);
    if (row.cells.size() <= column) row.cells.resize(column + 1);
    row.cells[column] = to_cell(value);
  }
  table.rows.push_back(std::move(row));
}

/// One value: a line of a file, or all of it.
Json parse_row(std::string_view text, const std::string& where, bool is_line) {
  try {
    return parse_json(text, where);
  } catch (const Error& error) {
    std::string what = error.parts().what;
    constexpr std::string_view kLine = "line 1, ";  // of the row, whose line in the file `where` tells
    if (const size_t at = what.find(kLine); is_line && at != std::string::npos) what.erase(at, kLine.size());
    throw Error{{.id = "format.json-line",
                 .what = what,
                 .where = where,
                 .fix = is_line ? "Each line must be one JSON object, written without line breaks."
                                : "Mend the array, or write one object a line."}};
  }
}

bool is_array(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '[';
}

}  // namespace

std::string each_json_object(const std::filesystem::path& file, std::string_view text, const TakeRow& take) {
  if (is_array(text)) {
    Json all = parse_row(text, file.string(), /*is_line=*/false);
    int64_t item = 0;
    for (Json& object : all) {
      const std::string where = fmt::format("{}, item {}", file.string(), ++item);
      check_object(object, where);
      take(object, item, where);
    }
    return "item";
  }
  each_line(text, [&](std::string_view record, int64_t line) {
    if (record.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const std::string where = fmt::format("{}, line {}", file.string(), line);
    Json object = parse_row(record, where, /*is_line=*/true);
    check_object(object, where);
    take(object, line, where);
  });
  return "line";
}

Table read_json_rows(const std::filesystem::path& file, std::string_view text) {
  Table table;
  table.file = file;
  table.unit = each_json_object(
      file, text, [&](const Json& object, int64_t line, const std::string&) { add_row(table, object, line); });
  return table;
}

std::string each_column_row(const std::filesystem::path& file, Format format, const TakeRow& take) {
  const auto take_row = [&](Json& row, int64_t number) {
    take(row, number, fmt::format("{}, row {}", file.string(), number));
  };
  if (format == Format::parquet) {
    io::each_parquet_row(file, take_row);
  } else {
    io::each_arrow_row(file, take_row);
  }
  return "row";
}

Table read_column_rows(const std::filesystem::path& file, Format format) {
  Table table;
  table.file = file;
  table.unit = each_column_row(
      file, format, [&](const Json& object, int64_t row, const std::string&) { add_row(table, object, row); });
  return table;
}

}  // namespace deltaw::data

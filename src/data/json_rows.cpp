// JSON: one object a line, or one array of objects.
#include <algorithm>

#include <fmt/format.h>
#include <unicode/utf8.h>

#include "data/table.h"
#include "deltaw/error.h"
#include "deltaw/options.h"

namespace deltaw::data {
namespace {

Cell to_cell(const Json& value) {
  if (value.is_string()) return {Cell::Kind::text, value.get<std::string>()};
  if (value.is_boolean()) return {Cell::Kind::text, value.get<bool>() ? "true" : "false"};
  if (value.is_number()) return {Cell::Kind::number, value.dump()};
  if (value.is_null()) return {};
  return {Cell::Kind::nested, {}};
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

// The parser's own message, without its class and number.
std::string parse_message(const Json::parse_error& error) {
  const std::string message = error.what();
  const size_t end = message.find("] ");
  return end == std::string::npos ? message : message.substr(end + 2);
}

Json parse_row(std::string_view text, const std::string& where, const char* fix) {
  try {
    return Json::parse(well_formed(text));
  } catch (const Json::parse_error& error) {
    throw Error{{.id = "format.json-line", .what = parse_message(error), .where = where, .fix = fix}};
  }
}

bool is_array(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '[';
}

}  // namespace

std::string well_formed(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    UChar32 code_point = 0;
    U8_NEXT(bytes, at, text.size(), code_point);
    if (code_point < 0) {
      result += "\xEF\xBF\xBD";  // U+FFFD
    } else {
      result.append(text, begin, at - begin);
    }
  }
  return result;
}

std::string each_json_object(const std::filesystem::path& file, std::string_view text, const TakeRow& take) {
  if (is_array(text)) {
    Json all = parse_row(text, file.string(), "Mend the array, or write one object a line.");
    int64_t item = 0;
    for (Json& object : all) {
      const std::string where = fmt::format("{}, item {}", file.string(), ++item);
      check_object(object, where);
      take(object, item, where);
    }
    return "item";
  }
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view record = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (record.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}, line {}", file.string(), line);
    Json object = parse_row(record, where, "Each line must be one JSON object, written without line breaks.");
    check_object(object, where);
    take(object, line, where);
  }
  return "line";
}

Table read_json_rows(const std::filesystem::path& file, std::string_view text) {
  Table table;
  table.file = file;
  table.unit = each_json_object(
      file, text, [&](const Json& object, int64_t line, const std::string&) { add_row(table, object, line); });
  return table;
}

}  // namespace deltaw::data

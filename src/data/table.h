// A file of rows with named columns, as read: nothing is interpreted yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/options.h"

namespace deltaw::data {

struct Cell {
  enum class Kind {
    bare,     // of a delimited file, which does not say what it holds
    text,     // a JSON string or boolean
    number,   // a JSON number
    missing,  // no such key, or null, which is then its text
    list,     // a JSON array of strings, numbers and booleans; its text is "a list"
    nested,   // any other array, or an object; its text is "a list" or "an object"
  };
  Kind kind = Kind::missing;
  std::string text;
  std::vector<Cell> items = {};  // of a list
};

bool is_null(const Cell& cell);    // and not only missing
bool is_nested(const Cell& cell);  // a list or an object

struct Row {
  int64_t line = 0;  // where it begins, from 1; of a JSON array, the item
  std::vector<Cell> cells;

  const Cell& cell(size_t column) const;  // a missing one beyond the end
};

struct Table {
  std::filesystem::path file;
  std::string unit = "line";  // what Row::line counts: "line" or "item"
  std::vector<std::string> columns;
  std::vector<Row> rows;

  std::string where(const Row& row) const;  // "train.tsv, line 12"
  bool has(const std::string& column) const;

  /// Position of a column. Throws config.missing-column, naming the option that asked and the nearest columns.
  size_t column(const std::string& name, const std::string& option) const;
};

/// What a column of a delimited file is called that has no name, with its position after it, as in pandas. It is never
/// taken unless an option names it.
inline constexpr std::string_view kUnnamed = "Unnamed: ";
bool is_unnamed(std::string_view column);

/// Reads a file by its ending. `columns` are the names where a delimited file has no header line: its first line is a
/// header when it holds one of them, or when `columns` is empty. `encoding` as in core/text_file.h.
Table read_table(const std::filesystem::path& file, const std::vector<std::string>& columns = {},
                 const std::string& encoding = "utf-8");

// One function per format; `text` is UTF-8 without a byte-order mark. Blank lines are no rows; an empty field in quotes
// is one.
Table read_tsv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns);
Table read_csv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns);
Table read_json_rows(const std::filesystem::path& file, std::string_view text);

/// Takes a row, its number in the file, and how an error names it: "train.jsonl, line 12".
using TakeRow = std::function<void(Json& row, int64_t line, const std::string& where)>;

/// Calls `take` with every object of a JSON array or of JSON lines; returns what their numbers count, "item" or "line".
/// Throws format.json-line.
std::string each_json_object(const std::filesystem::path& file, std::string_view text, const TakeRow& take);

/// The ending of a file of data in small letters: ".jsonl". Throws config.not-found; config.file-format for a folder.
std::string ending_of(const std::filesystem::path& file);

/// At most 60 bytes of a value, for messages.
std::string clipped(std::string_view text);

}  // namespace deltaw::data

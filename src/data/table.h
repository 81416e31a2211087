// A file of rows with named columns, as read: nothing is interpreted yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/file_formats.h"
#include "deltaw/data.h"
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
  int64_t line = 0;   // where it begins, from 1; of a JSON array, the item; of columns, the row
  size_t source = 0;  // the number of its file
  std::vector<Cell> cells;

  const Cell& cell(size_t column) const;  // a missing one beyond the end
};

struct Table {
  struct Source {
    std::filesystem::path file;
    std::string unit;
  };

  std::filesystem::path file;        // or what messages call several
  std::string unit = "line";         // what Row::line counts: "line", "item" or "row"
  std::vector<Source> sources = {};  // of several
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

/// Reads files one after the other; a column that one of them lacks is missing in its rows. `columns` are the names
/// where a delimited file has no header line: its first line is a header when it holds one of them, or when `columns`
/// is empty. `encoding` as in core/text_file.h.
Table read_table(const DataFiles& files, const std::vector<std::string>& columns = {},
                 const std::string& encoding = "utf-8");

/// At most 60 bytes of a value, for messages.
std::string clipped(std::string_view text);

}  // namespace deltaw::data

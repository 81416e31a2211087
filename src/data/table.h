// A file of rows with named columns, as read: nothing is interpreted yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deltaw::data {

struct Cell {
  enum class Kind {
    bare,     // of a delimited file, which does not say what it holds
    text,     // a JSON string or boolean
    number,   // a JSON number
    missing,  // no such key, or null
    nested,   // a JSON array or object; its text is not kept
  };
  Kind kind = Kind::missing;
  std::string text;
};

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

/// Reads a file by its ending. `columns` are the names where a delimited file has no header line: its first line is a
/// header when it holds one of them, or when `columns` is empty.
Table read_table(const std::filesystem::path& file, const std::vector<std::string>& columns = {});

// One function per format; `text` has no byte-order mark.
Table read_tsv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns);
Table read_csv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns);
Table read_json_rows(const std::filesystem::path& file, std::string_view text);

/// At most 60 bytes of a value, for messages.
std::string clipped(std::string_view text);

}  // namespace deltaw::data

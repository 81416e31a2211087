// TSV as GLUE has it (tabs separate, nothing is quoted) and CSV of RFC 4180.
#include <algorithm>

#include <fmt/format.h>

#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

using Fields = std::vector<std::string>;

// Takes records one by one: the first may be the header, blank ones are passed over.
class TableBuilder {
 public:
  TableBuilder(const std::filesystem::path& file, const std::vector<std::string>& columns) {
    table_.file = file;
    table_.columns = columns;
  }

  void add(Fields fields, int64_t line) {
    if (fields.size() == 1 && fields[0].empty()) return;
    if (first_ && is_header(fields)) {
      table_.columns = std::move(fields);
      first_ = false;
      return;
    }
    first_ = false;
    Row row{.line = line, .cells = {}};
    if (fields.size() != table_.columns.size()) throw_field_count(row, fields.size());
    row.cells.reserve(fields.size());
    for (std::string& field : fields) row.cells.push_back({Cell::Kind::bare, std::move(field)});
    table_.rows.push_back(std::move(row));
  }

  Table take() { return std::move(table_); }

 private:
  bool is_header(const Fields& fields) const {
    const auto& names = table_.columns;
    return names.empty() ||
           std::find_first_of(fields.begin(), fields.end(), names.begin(), names.end()) != fields.end();
  }

  [[noreturn]] void throw_field_count(const Row& row, size_t fields) const {
    const bool csv = table_.file.extension() == ".csv";
    throw Error{
        {.id = "data.field-count",
         .what = fmt::format("the row has {} {}, the file has {} columns ({})", fields,
                             fields == 1 ? "field" : "fields", table_.columns.size(), fmt::join(table_.columns, ", ")),
         .where = table_.where(row),
         .fix = csv ? "Put fields that hold a comma between double quotes."
                    : "Put exactly one tab between fields; a tab or line break inside a field needs .csv or .jsonl."}};
  }

  Table table_;
  bool first_ = true;
};

class CsvReader {
 public:
  CsvReader(const std::filesystem::path& file, std::string_view text) : file_(file), text_(text) {}

  bool at_end() const { return at_ >= text_.size(); }
  int64_t line() const { return line_; }

  Fields record() {
    Fields fields;
    do {
      fields.push_back(at('"') ? quoted() : plain());
    } while (take(','));
    take('\r');
    if (take('\n')) ++line_;
    return fields;
  }

 private:
  bool at(char c) const { return at_ < text_.size() && text_[at_] == c; }

  bool take(char c) {
    if (!at(c)) return false;
    ++at_;
    return true;
  }

  bool at_line_end() const {
    return at('\n') || at_end() || (at('\r') && (at_ + 1 == text_.size() || text_[at_ + 1] == '\n'));
  }

  std::string plain() {
    const size_t begin = at_;
    while (!at(',') && !at_line_end()) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted() {
    const int64_t first_line = line_;
    std::string value;
    for (++at_; !at_end(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        if (!at('"')) {
          if (!at(',') && !at_line_end()) throw_quote("text follows the closing quote of a field", line_);
          return value;
        }
      }
      if (text_[at_] == '\n') ++line_;
      value += text_[at_];
    }
    throw_quote("a quoted field is not closed before the file ends", first_line);
  }

  [[noreturn]] void throw_quote(const char* what, int64_t line) const {
    throw Error{{.id = "format.csv",
                 .what = what,
                 .where = fmt::format("{}, line {}", file_.string(), line),
                 .fix = "Write a quote inside a quoted field twice (\"\"); a file without quoting is a .tsv."}};
  }

  const std::filesystem::path& file_;
  std::string_view text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

Table read_tsv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns) {
  TableBuilder builder(file, columns);
  int64_t line = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view record = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (record.ends_with('\r')) record.remove_suffix(1);
    Fields fields;
    for (size_t tab = record.find('\t'); tab != std::string_view::npos; tab = record.find('\t')) {
      fields.emplace_back(record.substr(0, tab));
      record.remove_prefix(tab + 1);
    }
    fields.emplace_back(record);
    builder.add(std::move(fields), ++line);
  }
  return builder.take();
}

Table read_csv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns) {
  TableBuilder builder(file, columns);
  CsvReader reader(file, text);
  while (!reader.at_end()) {
    const int64_t line = reader.line();
    builder.add(reader.record(), line);
  }
  return builder.take();
}

}  // namespace deltaw::data

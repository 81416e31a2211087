#include "data/delimited.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "core/json.h"
#include "core/text_file.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

using Fields = std::vector<std::string>;

struct Separator {
  char character;
  const char* name;
};

constexpr Separator kSeparators[] = {{',', "commas"}, {';', "semicolons"}, {'\t', "tabs"}, {'|', "bars"}};

size_t count_of(std::string_view text, char c) {
  return static_cast<size_t>(std::count(text.begin(), text.end(), c));
}

// Takes records one by one: the first may be the header.
class TableBuilder {
 public:
  TableBuilder(const std::filesystem::path& file, const std::vector<std::string>& columns, char separator)
      : separator_(separator) {
    table_.file = file;
    table_.columns = columns;
  }

  void add(Fields fields, int64_t line) {
    if (first_ && is_header(fields)) {
      name_columns(std::move(fields));
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

  Table take() {
    if (other_ && !table_.rows.empty() && all_rows_hold_other()) throw_separator();
    return std::move(table_);
  }

 private:
  bool is_header(const Fields& fields) const {
    const auto& names = table_.columns;
    return names.empty() ||
           std::find_first_of(fields.begin(), fields.end(), names.begin(), names.end()) != fields.end();
  }

  // A column without a name, such as the index that pandas writes, gets the name that pandas gives it.
  void name_columns(Fields names) {
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i].empty()) names[i] = fmt::format("{}{}", kUnnamed, i);
    }
    table_.columns = std::move(names);
    if (table_.columns.size() > 1) return;
    for (const Separator& candidate : kSeparators) {
      const size_t found = count_of(table_.columns[0], candidate.character);
      if (candidate.character == separator_ || found == 0) continue;
      if (!other_ || found > count_of(table_.columns[0], other_->character)) other_ = candidate;
    }
  }

  // A header of one field may hold a semicolon by chance; its rows do not all hold as many.
  bool all_rows_hold_other() const {
    const size_t wanted = count_of(table_.columns[0], other_->character);
    return std::all_of(table_.rows.begin(), table_.rows.end(),
                       [&](const Row& row) { return count_of(row.cells[0].text, other_->character) >= wanted; });
  }

  [[noreturn]] void throw_separator() const {
    const bool tsv = separator_ == '\t';
    throw Error{
        {.id = "format.separator",
         .what = fmt::format("the header line '{}' holds {}, and fields of a {} are separated by {}",
                             clipped(table_.columns[0]), other_->name, tsv ? ".tsv" : ".csv", tsv ? "tabs" : "commas"),
         .where = table_.file.string(),
         .fix = other_->character == ','    ? "Name the file .csv."
                : other_->character == '\t' ? "Name the file .tsv, or write it with commas."
                                            : "Write it with commas (.csv) or tabs (.tsv), or as .jsonl."}};
  }

  [[noreturn]] void throw_field_count(const Row& row, size_t fields) const {
    if (other_) throw_separator();
    throw Error{
        {.id = "data.field-count",
         .what = fmt::format("the row has {} {}, the file has {} {} ({})", fields, fields == 1 ? "field" : "fields",
                             table_.columns.size(), table_.columns.size() == 1 ? "column" : "columns",
                             fmt::join(table_.columns, ", ")),
         .where = table_.where(row),
         .fix = separator_ == ','
                    ? "Put fields that hold a comma between double quotes."
                    : "Put exactly one tab between fields; a tab or line break inside a field needs .csv or .jsonl."}};
  }

  Table table_;
  char separator_;
  std::optional<Separator> other_;  // that the header seems to have
  bool first_ = true;
};

// Records end in \n or \r\n, or all of them in \r, as the first one shows.
class QuotedReader {
 public:
  QuotedReader(const std::filesystem::path& file, std::string_view text, char separator)
      : file_(file), text_(text), separator_(separator) {}

  bool at_end() const { return at_ >= text_.size(); }
  int64_t line() const { return line_; }

  /// Nothing for a blank line.
  Fields record() {
    Fields fields;
    if (!at_line_end()) {
      do {
        fields.push_back(at('"') ? quoted() : plain());
      } while (take(separator_));
    }
    const bool returned = take('\r');
    const bool fed = take('\n');
    if (returned || fed) ++line_;
    return fields;
  }

 private:
  bool at(char c) const { return at_ < text_.size() && text_[at_] == c; }

  bool take(char c) {
    if (!at(c)) return false;
    ++at_;
    return true;
  }

  bool at_lone_return() const { return at('\r') && at_ + 1 < text_.size() && text_[at_ + 1] != '\n'; }

  bool at_line_end() {
    if (!at_end() && !at('\n') && !at('\r')) return false;
    if (!returns_end_lines_) returns_end_lines_ = at_lone_return();
    return !at_lone_return() || *returns_end_lines_;
  }

  std::string plain() {
    const size_t begin = at_;
    while (!at(separator_) && !at_line_end()) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted() {
    const int64_t first_line = line_;
    std::string value;
    for (++at_; !at_end(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        if (!at('"')) {
          if (!at(separator_) && !at_line_end()) throw_quote("text follows the closing quote of a field", line_);
          return value;
        }
      }
      if (at('\n') || (returns_end_lines_.value_or(false) && at_lone_return())) ++line_;
      value += text_[at_];
    }
    throw_quote("a quoted field begins here and is not closed before the file ends", first_line);
  }

  [[noreturn]] void throw_quote(const char* what, int64_t line) const {
    throw Error{{.id = "format.csv",
                 .what = what,
                 .where = fmt::format("{}, line {}", file_.string(), line),
                 .fix = "Write a quote inside a quoted field twice (\"\"); a file without quoting is a .tsv."}};
  }

  const std::filesystem::path& file_;
  std::string_view text_;
  char separator_;
  std::optional<bool> returns_end_lines_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

Table read_quoted(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns,
                  char separator) {
  TableBuilder builder(file, columns, separator);
  QuotedReader reader(file, text, separator);
  while (!reader.at_end()) {
    const int64_t line = reader.line();
    Fields fields = reader.record();
    if (!fields.empty()) builder.add(std::move(fields), line);
  }
  return builder.take();
}

void refuse_zero_bytes(const std::filesystem::path& file, std::string_view text) {
  const size_t zero = text.find('\0');
  if (zero == std::string_view::npos) return;
  throw Error{{.id = "format.zero-byte",
               .what = "a zero byte stands at " + line_and_column(text, zero),
               .where = file.string(),
               .fix = "Write the file again, or take them out: tr -d '\\000' < OLD > NEW"}};
}

Fields split(std::string_view line) {
  Fields fields;
  for (size_t tab = line.find('\t'); tab != std::string_view::npos; tab = line.find('\t')) {
    fields.emplace_back(line.substr(0, tab));
    line.remove_prefix(tab + 1);
  }
  fields.emplace_back(line);
  return fields;
}

bool in_quotes(std::string_view field) {
  return field.size() > 1 && field.front() == '"' && field.back() == '"';
}

/// A field as CSV writes one that holds quotes, which pandas does in files with tabs too: in quotes, and all of those
/// inside are doubled. Text of a file without quoting does not look so. Nothing for any other field.
std::optional<std::string> unquoted(std::string_view field) {
  if (!in_quotes(field)) return std::nullopt;
  std::string text;
  for (size_t i = 1; i + 1 < field.size(); ++i) {
    text += field[i];
    if (field[i] != '"') continue;
    if (i + 2 >= field.size() || field[i + 1] != '"') return std::nullopt;
    ++i;
  }
  return text.find('"') == std::string::npos ? std::nullopt : std::optional(std::move(text));
}

/// Whether a program that quotes every field wrote the file: its header line shows it.
bool quotes_all(std::string_view text) {
  const Fields header = split(text.substr(0, text.find_first_of("\r\n")));
  return std::all_of(header.begin(), header.end(), in_quotes);
}

}  // namespace

Table read_tsv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns) {
  refuse_zero_bytes(file, text);
  if (columns.empty() && quotes_all(text)) return read_quoted(file, text, columns, '\t');
  TableBuilder builder(file, columns, '\t');
  each_line(text, [&](std::string_view line, int64_t number) {
    if (line.empty()) return;
    Fields fields = split(line);
    if (fields.size() == 1 && fields[0] == "\"\"") fields[0].clear();  // so that the line is not blank
    for (std::string& field : fields) {
      if (auto inner = unquoted(field)) field = std::move(*inner);
    }
    builder.add(std::move(fields), number);
  });
  return builder.take();
}

Table read_csv(const std::filesystem::path& file, std::string_view text, const std::vector<std::string>& columns) {
  refuse_zero_bytes(file, text);
  return read_quoted(file, text, columns, ',');
}

}  // namespace deltaw::data

#include "output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/printable.h"
#include "core/progress.h"
#include "deltaw/error.h"

namespace deltaw::cli {
namespace {

[[noreturn]] void refuse_write() {
  throw Error({.id = "io.write-failed",
               .what = fmt::format("the output could not be written: {}", std::strerror(errno)),
               .where = "standard output",
               .fix = "free space on that device or write elsewhere"});
}

// A figure, with its unit perhaps: "1,024", "3.5 MiB", "72 %".
bool is_number(const std::string& text) {
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) &&
         text.find_first_of("()_=^") == std::string::npos;
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw ReaderGone{};
  refuse_write();
}

void show(std::string_view text) {
  print(printable(text, /*lines=*/true));
}

void note(std::string_view text) {
  const std::string shown = printable(text, /*lines=*/true);
  std::fwrite(shown.data(), 1, shown.size(), stderr);
}

void warning(std::string_view text) {
  complain(fmt::format("warning: {}", printable(text)));
}

void complain(std::string_view text) {
  const auto width = terminal_width();
  note((width ? wrapped(text, *width) : std::string(text)) + '\n');
}

Json row_line(int64_t number, const Json& id) {
  Json line = {{"row", number}};
  if (!id.is_null()) line["id"] = id;
  return line;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line = " ";
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns(row[i]), ' ');
      const bool right = i > 0 && is_number(row[i]);
      line += i == 0 ? " " : "  ";
      line += right ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

LineWriter::LineWriter(const std::filesystem::path& path) {
  if (!path.empty()) file_.emplace(path);
}

void LineWriter::write(std::string_view line) {
  file_ ? file_->write(line) : print(line);
}

void LineWriter::finish() {
  if (file_) file_->finish();
}

}  // namespace deltaw::cli

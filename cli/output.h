// Results go to standard output, everything else to standard error.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_text.h"
#include "core/new_file.h"
#include "deltaw/options.h"

namespace deltaw::cli {

/// Whoever read the output has gone, as `head` does: there is nothing left to say.
struct ReaderGone {};

/// Results to standard output, as they are. Throws io.write-failed when they do not arrive, ReaderGone where SIGPIPE is
/// ignored (else it ends the program).
void print(std::string_view text);
/// Lines for people to standard output: what steers a terminal is written out.
void show(std::string_view text);

/// Lines for people to standard error, likewise.
void note(std::string_view text);
/// "warning: ..." to standard error; on a terminal in lines of its width, as complain().
void warning(std::string_view text);
/// The message of an error.
void complain(std::string_view text);

/// {"row": number} and the id of a row that has one: what a line of results on a row of input begins with.
Json row_line(int64_t number, const Json& id);

/// Rows of cells as lines with aligned columns, indented by two; cells that begin with a digit stand to the right.
std::string table(const std::vector<std::vector<std::string>>& rows);

/// Lines of output to a file (core/new_file.h), or to standard output where `path` is empty.
class LineWriter {
 public:
  explicit LineWriter(const std::filesystem::path& path);
  void write(std::string_view line);
  void finish();

 private:
  std::optional<NewFile> file_;
};

}  // namespace deltaw::cli

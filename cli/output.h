// Results go to standard output, everything else to standard error.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/options.h"

namespace deltaw::cli {

/// Text to standard output. Throws io.write-failed when it does not arrive.
void print(std::string_view text);
/// JSON on one line, or indented; invalid UTF-8 becomes U+FFFD.
std::string to_line(const Json& value);
std::string to_text(const Json& value);

/// Text to standard error.
void note(std::string_view text);
/// One line "warning: ..." to standard error.
void warning(std::string_view text);

/// Rows of cells as lines with aligned columns, indented by two; cells that begin with a digit stand to the right.
std::string table(const std::vector<std::vector<std::string>>& rows);

/// Lines of output to a file that is complete or absent, or to standard output where `path` is empty.
class LineWriter {
 public:
  explicit LineWriter(std::filesystem::path path);
  ~LineWriter();  // removes what was not finished
  void write(std::string_view line);
  void finish();

 private:
  std::filesystem::path path_, partial_;
  std::ofstream file_;
};

}  // namespace deltaw::cli

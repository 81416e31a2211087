// The Python of scripts/setup --oracle, for tests that ask PEFT itself.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>

#include "core/files.h"
#include "deltaw/options.h"
#include "support/data.h"

namespace deltaw::test {

inline std::string oracle_python() {
  if (const char* set = std::getenv("DELTAW_ORACLE_PYTHON")) return set;
  return (tests_folder().parent_path() / ".venv/bin/python").string();
}

inline bool has_peft() {
  return std::system((oracle_python() + " -c 'import peft' 2>/dev/null").c_str()) == 0;
}

/// Runs a script of oracle/ that prints a JSON object a line, with its `problems`, and expects `reports` without any.
inline void expect_no_problems(const std::string& script, const std::string& arguments, size_t reports,
                               const std::filesystem::path& folder) {
  const std::string output = (folder / "report.jsonl").string(), errors = (folder / "errors.txt").string();
  const std::string command =
      oracle_python() + " " + fixture("../oracle/" + script).string() + " " + arguments + ">" + output + " 2>" + errors;
  const int status = std::system(command.c_str());
  size_t found = 0;
  std::istringstream lines(read_file(output));
  for (std::string line; std::getline(lines, line); ++found) {
    EXPECT_TRUE(Json::parse(line)["problems"].empty()) << line;
  }
  EXPECT_EQ(found, reports) << read_file(errors);
  EXPECT_EQ(status, 0);
}

}  // namespace deltaw::test

// Files of keys that are configurations of other tools.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/problems.h"
#include "deltaw/options.h"

namespace deltaw::cli {

struct OtherTool {
  Json values;                     // in deltaw's keys; the file's own where no other tool's key marks it
  std::string report;              // what the file was taken for and what became of it; empty where it is deltaw's
  std::vector<std::string> meant;  // keys that it wanted to set and that are among the problems
};

/// `values` of the file `path`. `allowed` are the keys that a file of deltaw's may hold, `given` the names on the
/// command line, which win over the file, and `flags` their values. What is not known or cannot be had goes to
/// `problems`.
OtherTool translate_other_tool(const Json& values, const std::set<std::string>& allowed,
                               const std::map<std::string, Json>& given, const std::string& path, Problems& problems);

}  // namespace deltaw::cli

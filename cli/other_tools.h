// Files of keys that are configurations of other tools.
#pragma once

#include <set>
#include <string>

#include "deltaw/options.h"
#include "problems.h"

namespace deltaw::cli {

struct OtherTool {
  Json values;         // in deltaw's keys; the file's own where no other tool's key marks it
  std::string report;  // what the file was taken for and what became of it; empty where it is deltaw's
};

/// `values` of the file `path`. `allowed` are the keys that a file of deltaw's may hold, `given` the names on the
/// command line, which win over the file, and `flags` their values. What is not known or cannot be had goes to
/// `problems`.
OtherTool translate_other_tool(const Json& values, const std::set<std::string>& allowed,
                               const std::set<std::string>& given, const Json& flags, const std::string& path,
                               Problems& problems);

}  // namespace deltaw::cli

// What a folder holds, read from its configuration and from the headers of its tensor files.
#pragma once

#include <filesystem>
#include <string>

#include "deltaw/options.h"

namespace deltaw::cli {

/// {"kind": "checkpoint" | "adapter" | "run" | "tensors", ...}. Throws config.nothing-known when it is none of them,
/// and what reading its files throws.
Json describe(const std::string& name_or_path, bool modules);

/// The same for people.
std::string info_text(const Json& info);

}  // namespace deltaw::cli

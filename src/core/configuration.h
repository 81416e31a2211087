// Files of what was asked for.
#pragma once

#include <filesystem>

#include "deltaw/options.h"

namespace deltaw {

/// A JSON or YAML file of keys. One that cannot be read is a mistake of configuration, whatever is wrong with it:
/// errors are config.*, where read_config_file throws format.* and others.
Json read_configuration(const std::filesystem::path& path);

}  // namespace deltaw

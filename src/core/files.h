// Files that are complete or absent.
#pragma once

#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>

#include "deltaw/options.h"

namespace deltaw {

/// Calls `write` with a stream onto a temporary file in the same folder, flushes it to disk and renames it to `path`.
/// On any failure (a full disk, a missing folder, an exception from `write`) the temporary file is removed, `path` is
/// as it was, and an io.* error names the file and the system's reason.
void write_file(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write);
void write_file(const std::filesystem::path& path, std::string_view text);

/// Indented by 2; keys sorted where `sorted`, as Hugging Face writes its own files.
void write_json(const std::filesystem::path& path, const Json& value, bool sorted = true);

std::string read_file(const std::filesystem::path& path);  // throws io.not-found, io.unreadable
Json read_json(const std::filesystem::path& path);         // throws format.json with line and column

/// A file of options: JSON, or YAML with the same keys (by the ending .yaml or .yml). Always an object; scalars keep
/// the type they have in YAML 1.2, so `1e-3` is a number.
Json read_config_file(const std::filesystem::path& path);

/// Fills a folder whole or not at all: `fill` gets a temporary folder beside `folder`, which takes its name when `fill`
/// returns. An existing `folder` is replaced.
void write_folder(const std::filesystem::path& folder, const std::function<void(const std::filesystem::path&)>& fill);

}  // namespace deltaw

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

/// The order of keys in a file. Hugging Face sorts those of its own files, on every level; where the order of an inner
/// object's keys has a meaning (the first of several patterns that match counts), only the outermost are sorted.
enum class KeyOrder { kept, outermost_sorted, sorted };

/// Indented by 2.
void write_json(const std::filesystem::path& path, const Json& value, KeyOrder order = KeyOrder::sorted);

/// Bytes as they are; a user's text is read by core/text_file.h. Throws io.not-found, io.unreadable.
std::string read_file(const std::filesystem::path& path);

Json read_json(const std::filesystem::path& path);  // throws format.json, format.encoding with line and column

/// A file of options: JSON, or YAML with the same keys (by the ending .yaml or .yml). Always an object; scalars keep
/// the type they have in YAML 1.2, so `1e-3` is a number.
Json read_config_file(const std::filesystem::path& path);

}  // namespace deltaw

// What the file system refuses, in the words of an Error.
#pragma once

#include <filesystem>

#include "deltaw/error.h"

namespace deltaw {

/// io.full-disk, or io.unreadable with the path and what to do about it.
Error named(const std::filesystem::filesystem_error& error);

/// Throws where nothing is seen at `path`, and not because nothing is there: io.unreadable where a folder on the way
/// may not be entered, say, io.not-found for a link that leads to nothing.
void refuse_unseen(const std::filesystem::path& path);

}  // namespace deltaw

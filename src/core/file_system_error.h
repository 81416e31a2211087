// What the file system refuses, in the words of an Error.
#pragma once

#include <filesystem>

#include "deltaw/error.h"

namespace deltaw {

/// io.full-disk, or io.unreadable with the path and what to do about it.
Error named(const std::filesystem::filesystem_error& error);

}  // namespace deltaw

// Messages to standard error. The library is quiet below `warn` until the program sets a level.
#pragma once

#include <spdlog/logger.h>

namespace deltaw {

/// The logger of the library, to standard error, pattern "12:03:07 info  message". Level from DELTAW_LOG when set
/// (trace, debug, info, warn, error, off), else warn.
spdlog::logger& log();

}  // namespace deltaw

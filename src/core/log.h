// Messages to standard error.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace deltaw {

/// Writes lines such as "12:03:07 info  message". Quiet below `warn` until a level is set, or named by DELTAW_LOG.
class Log {
 public:
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    write("info", fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    write("warn", fmt::format(format, std::forward<Args>(args)...));
  }

  void set_level(const std::string& level);  // trace, debug, info, warn, error, off
  void write(const std::string& level, const std::string& message);
};

Log& log();

}  // namespace deltaw

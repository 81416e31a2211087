#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace deltaw {
namespace {

std::shared_ptr<spdlog::logger> make_logger() {
  // Not in spdlog's registry: a program that embeds the library keeps its own loggers to itself.
  auto logger = std::make_shared<spdlog::logger>("deltaw", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%H:%M:%S %^%-5!l%$ %v");
  logger->set_level(spdlog::level::warn);
  logger->flush_on(spdlog::level::trace);
  if (const char* wish = std::getenv("DELTAW_LOG")) {
    const spdlog::level::level_enum level = spdlog::level::from_str(wish);
    // from_str answers `off` for a word it does not know.
    if (level != spdlog::level::off || std::string(wish) == "off") logger->set_level(level);
  }
  return logger;
}

}  // namespace

spdlog::logger& log() {
  static const std::shared_ptr<spdlog::logger> logger = make_logger();
  return *logger;
}

}  // namespace deltaw

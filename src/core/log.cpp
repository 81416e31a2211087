#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>

#include "core/printable.h"

namespace deltaw {
namespace {

// spdlog returns `off` for a word that it does not know; such a word changes nothing here.
void set_level(spdlog::logger& logger, const std::string& wish) {
  const spdlog::level::level_enum level = spdlog::level::from_str(wish);
  if (level != spdlog::level::off || wish == "off") logger.set_level(level);
}

std::shared_ptr<spdlog::logger> make_logger() {
  // Not in spdlog's registry: a program that embeds the library keeps its own loggers to itself.
  auto logger = std::make_shared<spdlog::logger>("deltaw", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%H:%M:%S %^%-5l%$ %v");
  logger->set_level(spdlog::level::warn);
  logger->flush_on(spdlog::level::trace);
  if (const char* wish = std::getenv("DELTAW_LOG")) set_level(*logger, wish);
  return logger;
}

spdlog::logger& sink() {
  static const std::shared_ptr<spdlog::logger> logger = make_logger();
  return *logger;
}

}  // namespace

void Log::set_level(const std::string& level) {
  deltaw::set_level(sink(), level);
}

void Log::write(const std::string& level, const std::string& message) {
  sink().log(spdlog::level::from_str(level), "{}", printable(message, /*lines=*/true));
}

Log& log() {
  static Log instance;
  return instance;
}

}  // namespace deltaw

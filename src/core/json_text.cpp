#include "core/json_text.h"

#include <fmt/format.h>

namespace deltaw {
namespace {

/// JSON with the controls that a dump leaves as they are, U+007F to U+009F, written out; they stand in strings alone.
std::string without_controls(const std::string& json) {
  std::string text;
  text.reserve(json.size());
  for (size_t i = 0; i < json.size(); ++i) {
    const auto byte = static_cast<unsigned char>(json[i]);
    const auto next = i + 1 < json.size() ? static_cast<unsigned char>(json[i + 1]) : 0u;
    if (byte == 0x7F) {
      text += "\\u007f";
    } else if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {
      text += fmt::format("\\u{:04x}", next);
      ++i;
    } else {
      text += json[i];
    }
  }
  return text;
}

}  // namespace

std::string to_line(const Json& value) {
  return without_controls(value.dump(-1, ' ', false, Json::error_handler_t::replace)) + "\n";
}

std::string to_text(const Json& value) {
  return without_controls(value.dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

}  // namespace deltaw

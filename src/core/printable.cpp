#include "core/printable.h"

#include <fmt/format.h>
#include <unicode/utf8.h>

namespace deltaw {
namespace {

/// Controls of ASCII and of Latin-1, line separators, and the marks that turn the direction of what follows.
bool steers(UChar32 c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

std::string written_out(UChar32 c) {
  switch (c) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return c < 0x80 ? fmt::format("\\x{:02x}", c) : fmt::format("\\u{:04x}", c);
  }
}

}  // namespace

std::string printable(std::string_view text, bool lines) {
  std::string result;
  result.reserve(text.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    UChar32 c = 0;
    U8_NEXT(bytes, at, text.size(), c);
    if (c < 0) {
      for (size_t i = begin; i < at; ++i) result += fmt::format("\\x{:02x}", bytes[i]);
    } else if (steers(c) && !(lines && c == '\n')) {
      result += written_out(c);
    } else {
      result.append(text, begin, at - begin);
    }
  }
  return result;
}

}  // namespace deltaw

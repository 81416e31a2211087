// Blanks and letters of ASCII, whatever the locale; bytes of other characters stay as they are.
#pragma once

#include <string>
#include <string_view>

namespace deltaw {

inline constexpr std::string_view kBlanks = " \t\r\n";

/// Whether there is nothing but blanks.
inline bool is_blank(std::string_view text) {
  return text.find_first_not_of(kBlanks) == std::string_view::npos;
}

/// Without blanks at either end.
inline std::string_view trimmed(std::string_view text) {
  if (is_blank(text)) return {};
  const size_t first = text.find_first_not_of(kBlanks);
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

/// In small letters.
inline std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return small;
}

}  // namespace deltaw

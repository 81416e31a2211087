// UTF-8 and the character classes that tokenizers ask for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace deltaw::text {

/// U+2581, which SentencePiece writes for a blank.
inline constexpr const char* kBlank = "\xE2\x96\x81";

struct CodePoint {
  char32_t value;
  uint32_t bytes;
};

/// The code point at byte `at` of valid UTF-8.
inline CodePoint decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// Bytes of the character that starts with this byte.
inline uint32_t width(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Byte where the last character of a non-empty text begins.
inline size_t last_start(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

void append(std::string& out, char32_t value);
int64_t count_code_points(std::string_view text);

/// Whether every code point lies below `bound`, which is 0x80, 0xA0, 0xC0 or 0x300.
bool all_below(std::string_view text, char32_t bound);

/// Valid UTF-8: each broken sequence (the longest possible start of a character) becomes one U+FFFD.
std::string repaired(std::string_view text);

/// Whether Unicode had the character in this version.
bool not_newer_than(char32_t c, int version);

bool is_space(char32_t c);            // the property White_Space
bool is_other(char32_t c);            // control, format and private-use characters
bool is_punctuation(char32_t c);      // ASCII punctuation and the categories P*
bool is_nonspacing_mark(char32_t c);  // the category Mn
bool is_mark(char32_t c);             // the categories M*
bool is_numeric(char32_t c);          // the categories N*
bool is_word(char32_t c);             // \w of Unicode's regular expressions
bool is_cjk(char32_t c);              // the blocks that BERT's tokenizer separates by spaces

/// Lower case without context; `second` is 0 unless the result has two characters.
char32_t to_lower(char32_t c, char32_t& second);

}  // namespace deltaw::text

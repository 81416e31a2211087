#include "text/tokenizer/unicode.h"

#include <algorithm>
#include <array>

#include <unicode/uchar.h>

namespace deltaw::text {

void append(std::string& out, char32_t value) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0 | value >> 6);
    put(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    put(0xE0 | value >> 12);
    put(0x80 | (value >> 6 & 0x3F));
    put(0x80 | (value & 0x3F));
  } else {
    put(0xF0 | value >> 18);
    put(0x80 | (value >> 12 & 0x3F));
    put(0x80 | (value >> 6 & 0x3F));
    put(0x80 | (value & 0x3F));
  }
}

int64_t count_code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool all_below(std::string_view text, char32_t bound) {
  unsigned char most = 0;
  for (const char c : text) most = std::max(most, static_cast<unsigned char>(c));
  if (most < 0x80) return true;
  if (bound == 0x80) return false;
  if (bound == 0x300) return most < 0xCC;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    if (c.value >= bound) return false;
    at += c.bytes;
  }
  return true;
}

namespace {

/// Bytes of the well-formed character at `at`, or 0 and in `broken` the bytes that one U+FFFD replaces.
size_t well_formed(std::string_view text, size_t at, size_t& broken) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  broken = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = width(text[at]);
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    broken = i;
    if (at + i >= text.size()) return 0;
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return 0;
  }
  return length;
}

bool in(char32_t c, char32_t first, char32_t last) {
  return c >= first && c <= last;
}

bool has_category(char32_t c, uint32_t mask) {
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & mask) != 0;
}

struct Range {
  char32_t first;
  char32_t last;
};

template <size_t size>
bool among(char32_t c, const std::array<Range, size>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(), [c](const Range& range) { return in(c, range.first, range.last); });
}

// The reference library mixes Unicode versions: 8 for the categories of BERT's rules, 9 for normalisation, 16 for \w,
// 17 for digits and lower case. ICU 72 knows 15, so newer characters are listed and older rules ask for the age.
constexpr std::array<Range, 9> kNewNumbers{{{0x10D40, 0x10D49},
                                            {0x116D0, 0x116E3},
                                            {0x11BF0, 0x11BF9},
                                            {0x11DE0, 0x11DE9},
                                            {0x16130, 0x16139},
                                            {0x16D70, 0x16D79},
                                            {0x16FF4, 0x16FF6},
                                            {0x1CCF0, 0x1CCF9},
                                            {0x1E5F1, 0x1E5FA}}};

constexpr std::array<Range, 32> kNewWords{
    {{0x897, 0x897},     {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
     {0x10D40, 0x10D65}, {0x10D69, 0x10D6D}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x10EFC, 0x10EFC},
     {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113C0},
     {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D3}, {0x113E1, 0x113E2},
     {0x116D0, 0x116E3}, {0x11BC0, 0x11BE0}, {0x11BF0, 0x11BF9}, {0x11F5A, 0x11F5A}, {0x13460, 0x143FA},
     {0x16100, 0x16139}, {0x16D40, 0x16D6C}, {0x16D70, 0x16D79}, {0x18CFF, 0x18CFF}, {0x1CCF0, 0x1CCF9},
     {0x1E5D0, 0x1E5FA}, {0x2EBF0, 0x2EE5D}}};

char32_t new_lower(char32_t c) {
  if (in(c, 0x10D50, 0x10D65)) return c + 0x20;
  if (in(c, 0x16EA0, 0x16EB8)) return c + 0x1B;
  switch (c) {
    case 0x1C89:
    case 0xA7CC:
    case 0xA7CE:
    case 0xA7D2:
    case 0xA7D4:
    case 0xA7DA:
      return c + 1;
    case 0xA7CB:
      return 0x264;
    case 0xA7DC:
      return 0x19B;
    default:
      return c;
  }
}

}  // namespace

bool not_newer_than(char32_t c, int version) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] < version || (age[0] == version && age[1] == 0);
}

std::string repaired(std::string_view text) {
  std::string out;
  size_t copied = 0;
  for (size_t at = 0; at < text.size();) {
    size_t broken = 0;
    const size_t length = well_formed(text, at, broken);
    if (length > 0) {
      at += length;
      continue;
    }
    out.append(text.substr(copied, at - copied)).append("\xEF\xBF\xBD");
    at += broken;
    copied = at;
  }
  return out.append(text.substr(copied));
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || in(c, '\t', '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || in(c, 0x2000, 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_other(char32_t c) {
  if (c < 0x80) return c < 0x20 || c == 0x7F;
  return has_category(c, U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK) && not_newer_than(c, 8);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return in(c, '!', '/') || in(c, ':', '@') || in(c, '[', '`') || in(c, '{', '~');
  if (c == 0x166D || c == 0x111C9) return true;
  return has_category(c, U_GC_P_MASK) && not_newer_than(c, 8);
}

bool is_nonspacing_mark(char32_t c) {
  if (c < 0x300 || c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;
  return c == 0x1734 || (has_category(c, U_GC_MN_MASK) && not_newer_than(c, 8));
}

bool is_mark(char32_t c) {
  if (c < 0x300 || c == 0x111C9) return false;
  return c == 0x1CF2 || c == 0x1CF3 || (has_category(c, U_GC_M_MASK) && not_newer_than(c, 9));
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return in(c, '0', '9');
  return has_category(c, U_GC_N_MASK) || among(c, kNewNumbers);
}

bool is_word(char32_t c) {
  if (c < 0x80) return in(c, '0', '9') || in(c, 'A', 'Z') || in(c, 'a', 'z') || c == '_';
  return has_category(c, U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK) ||
         u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_ALPHABETIC) || c == 0x200C || c == 0x200D ||
         among(c, kNewWords);
}

bool is_cjk(char32_t c) {
  if (c < 0x3400) return false;
  return in(c, 0x4E00, 0x9FFF) || in(c, 0x3400, 0x4DBF) || in(c, 0x20000, 0x2A6DF) || in(c, 0x2A700, 0x2B73F) ||
         in(c, 0x2B740, 0x2B81F) || in(c, 0x2B920, 0x2CEAF) || in(c, 0xF900, 0xFAFF) || in(c, 0x2F800, 0x2FA1F);
}

char32_t to_lower(char32_t c, char32_t& second) {
  second = 0;
  if (c < 0x80) return in(c, 'A', 'Z') ? c + 32 : c;
  if (c == 0x130) {
    second = 0x307;
    return 'i';
  }
  const auto lower = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
  return lower != c ? lower : new_lower(c);
}

}  // namespace deltaw::text

#include "text/tokenizer/normal_forms.h"

#include <algorithm>
#include <cstddef>

#include <unicode/unorm2.h>
#include <unicode/utf16.h>

#include "deltaw/error.h"

namespace deltaw::text {
namespace {

struct Part {
  uint8_t combining_class;
  char32_t value;
  int32_t change;
};

const UNormalizer2* normalizer(bool compatible) {
  UErrorCode status = U_ZERO_ERROR;
  const UNormalizer2* found = compatible ? unorm2_getNFKCInstance(&status) : unorm2_getNFCInstance(&status);
  if (U_FAILURE(status)) {
    throw Error{{.id = "internal.unicode",
                 .what = std::string("ICU has no normalisation data: ") + u_errorName(status),
                 .where = "the ICU library",
                 .fix = "install the data package of libicu"}};
  }
  return found;
}

/// Sorts the marks after the last starter by combining class; equal classes keep their order.
void order_marks(std::vector<Part>& parts, size_t first) {
  std::stable_sort(parts.begin() + static_cast<ptrdiff_t>(first), parts.end(),
                   [](const Part& a, const Part& b) { return a.combining_class < b.combining_class; });
}

// The reference library normalises by the tables of Unicode 9.
constexpr int kUnicodeVersion = 9;

uint8_t combining_class(const UNormalizer2* data, char32_t c) {
  if (c < 0x300) return 0;
  const uint8_t found = unorm2_getCombiningClass(data, static_cast<UChar32>(c));
  return found != 0 && not_newer_than(c, kUnicodeVersion) ? found : 0;
}

std::vector<Part> decomposed(std::string_view text, bool compatible) {
  const UNormalizer2* data = normalizer(compatible);
  const char32_t bound = compatible ? 0xA0 : 0xC0;
  std::vector<Part> parts;
  parts.reserve(text.size());
  size_t first_mark = 0;
  const auto push = [&](char32_t c, int32_t change) {
    const uint8_t combining = combining_class(data, c);
    if (combining == 0 && first_mark < parts.size()) order_marks(parts, first_mark);
    parts.push_back({combining, c, change});
    if (combining == 0) first_mark = parts.size();
  };
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode(text, at);
    at += c.bytes;
    UChar units[64];
    UErrorCode status = U_ZERO_ERROR;
    const int32_t count =
        c.value < bound ? -1 : unorm2_getDecomposition(data, static_cast<UChar32>(c.value), units, 64, &status);
    if (count < 0 || U_FAILURE(status) || !not_newer_than(c.value, kUnicodeVersion)) {
      push(c.value, 0);
      continue;
    }
    for (int32_t i = 0, change = 0; i < count; change = 1) {
      UChar32 value = 0;
      U16_NEXT(units, i, count, value);
      push(static_cast<char32_t>(value), change);
    }
  }
  order_marks(parts, std::min(first_mark, parts.size()));
  return parts;
}

/// Canonical composition of decomposed parts. A composite takes the places of both its halves.
std::vector<Change> composed(const std::vector<Part>& parts, bool compatible) {
  const UNormalizer2* data = normalizer(compatible);
  std::vector<Change> result;
  result.reserve(parts.size());
  std::vector<Change> blocked;
  bool has_starter = false;
  Change starter{};
  uint8_t last_class = 0;  // of the last blocked mark
  const auto flush = [&] {
    if (has_starter) result.push_back(starter);
    result.insert(result.end(), blocked.begin(), blocked.end());
    blocked.clear();
  };
  for (const Part& part : parts) {
    if (!has_starter && part.combining_class != 0) {
      result.push_back({part.value, part.change});
      continue;
    }
    if (has_starter && (blocked.empty() || last_class < part.combining_class)) {
      const UChar32 pair =
          unorm2_composePair(data, static_cast<UChar32>(starter.value), static_cast<UChar32>(part.value));
      if (pair >= 0 && not_newer_than(static_cast<char32_t>(pair), kUnicodeVersion)) {
        starter = {static_cast<char32_t>(pair), starter.change + part.change - 1};
        continue;
      }
    }
    if (part.combining_class == 0) {
      flush();
      starter = {part.value, part.change};
      has_starter = true;
    } else {
      blocked.push_back({part.value, part.change});
      last_class = part.combining_class;
    }
  }
  flush();
  return result;
}

}  // namespace

void normal_form(Aligned& aligned, NormalForm form) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  if (all_below(aligned.text, compatible ? 0xA0 : compose ? 0x300 : 0xC0)) return;
  const std::vector<Part> parts = decomposed(aligned.text, compatible);
  if (compose) {
    transform(aligned, composed(parts, compatible));
    return;
  }
  std::vector<Change> changes;
  changes.reserve(parts.size());
  for (const Part& part : parts) changes.push_back({part.value, part.change});
  transform(aligned, changes);
}

}  // namespace deltaw::text

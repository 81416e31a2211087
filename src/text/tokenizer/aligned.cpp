#include "text/tokenizer/aligned.h"

#include <algorithm>
#include <cstddef>

#include <unicode/uchar.h>

namespace deltaw::text {
namespace {

/// Unicode's Final_Sigma: a cased character comes before the one at byte `at` and none after it, those that are
/// case-ignorable aside.
bool is_final(std::string_view text, size_t at) {
  const auto has = [](char32_t c, UProperty property) {
    return u_hasBinaryProperty(static_cast<UChar32>(c), property);
  };
  bool cased = false;
  for (size_t end = at; end > 0;) {
    end = last_start(text.substr(0, end));
    const char32_t c = decode(text, end).value;
    if (has(c, UCHAR_CASE_IGNORABLE)) continue;
    cased = has(c, UCHAR_CASED);
    break;
  }
  for (size_t next = at + width(text[at]); cased && next < text.size(); next += width(text[next])) {
    const char32_t c = decode(text, next).value;
    if (!has(c, UCHAR_CASE_IGNORABLE)) return !has(c, UCHAR_CASED);
  }
  return cased;
}

}  // namespace

void Aligned::push(char32_t value, Span span) {
  text::append(text, value);
  spans.resize(text.size(), span);
}

void Aligned::append(const Aligned& other, size_t begin, size_t end) {
  text.append(other.text, begin, end - begin);
  spans.insert(spans.end(), other.spans.begin() + static_cast<ptrdiff_t>(begin),
               other.spans.begin() + static_cast<ptrdiff_t>(end));
}

Aligned aligned(std::string text) {
  Aligned result{std::move(text), {}};
  result.spans.resize(result.text.size());
  uint32_t index = 0;
  for (size_t at = 0; at < result.text.size(); ++index) {
    const uint32_t bytes = width(result.text[at]);
    for (uint32_t i = 0; i < bytes; ++i) result.spans[at + i] = {index, index + 1};
    at += bytes;
  }
  return result;
}

void transform(Aligned& aligned, const std::vector<Change>& changes) {
  Aligned result;
  result.text.reserve(aligned.text.size() + aligned.text.size() / 4);
  result.spans.reserve(result.text.capacity());
  size_t at = 0;
  const auto skip = [&] {
    if (at < aligned.text.size()) at += width(aligned.text[at]);
  };
  for (const Change& step : changes) {
    Span span;
    if (step.change > 0 || at >= aligned.text.size()) {
      if (at > 0) span = aligned.spans[at - 1];
    } else {
      span = aligned.spans[at];
    }
    result.push(step.value, span);
    if (step.change > 0) continue;
    for (int32_t i = step.change; i <= 0; ++i) skip();
  }
  aligned = std::move(result);
}

void lowercase(Aligned& aligned, bool final_sigma) {
  if (all_below(aligned.text, 0x80)) {
    for (char& c : aligned.text) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    return;
  }
  Aligned result;
  result.text.reserve(aligned.text.size());
  result.spans.reserve(aligned.text.size());
  for (size_t at = 0; at < aligned.text.size();) {
    const CodePoint c = decode(aligned.text, at);
    char32_t second = 0;
    const bool ends_word = final_sigma && c.value == 0x3A3 && is_final(aligned.text, at);
    result.push(ends_word ? 0x3C2 : to_lower(c.value, second), aligned.spans[at]);
    if (second != 0) result.push(second, aligned.spans[at]);
    at += c.bytes;
  }
  aligned = std::move(result);
}

}  // namespace deltaw::text

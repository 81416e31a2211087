// A text being rewritten that remembers, for each byte, which code points of the original it stands for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/unicode.h"

namespace deltaw::text {

/// Code points [begin, end) of the original text.
struct Span {
  uint32_t begin = 0;
  uint32_t end = 0;
};

struct Aligned {
  std::string text;         // valid UTF-8
  std::vector<Span> spans;  // one per byte of text

  void push(char32_t value, Span span);
  void append(const Aligned& other, size_t begin, size_t end);
};

/// `text` is valid UTF-8.
Aligned aligned(std::string text);

/// One character of a rewritten text. `change` is 0 where it takes the place of the next old character, -n where it
/// takes that place and n more old characters vanish, 1 where it is inserted (and belongs to the character before).
struct Change {
  char32_t value;
  int32_t change;
};

void transform(Aligned& aligned, const std::vector<Change>& changes);

/// With `final_sigma`, a capital sigma at the end of a word becomes U+03C2, else U+03C3 as everywhere.
void lowercase(Aligned& aligned, bool final_sigma = false);

/// Keeps the characters that `keep` accepts.
template <class Keep>
void filter(Aligned& aligned, const Keep& keep) {
  size_t out = 0;
  for (size_t at = 0; at < aligned.text.size();) {
    const CodePoint c = decode(aligned.text, at);
    if (keep(c.value)) {
      for (uint32_t i = 0; i < c.bytes; ++i, ++out) {
        aligned.text[out] = aligned.text[at + i];
        aligned.spans[out] = aligned.spans[at + i];
      }
    }
    at += c.bytes;
  }
  aligned.text.resize(out);
  aligned.spans.resize(out);
}

}  // namespace deltaw::text

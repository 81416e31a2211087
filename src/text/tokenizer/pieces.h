// A text cut into pieces, on the way from the raw text to the words of the model.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "text/tokenizer/aligned.h"

namespace deltaw::text {

/// Bytes [begin, end) of the buffer. `added` is the id of the added token found there, or -1: only such pieces are cut
/// further.
struct Piece {
  uint32_t begin = 0;
  uint32_t end = 0;
  int32_t added = -1;
};

struct Pieces {
  Aligned buffer;
  std::vector<Piece> list;

  std::string_view text(const Piece& piece) const {
    return std::string_view(buffer.text).substr(piece.begin, piece.end - piece.begin);
  }
};

/// A stretch of a text: what a pattern matched, or what lies between two matches.
struct Stretch {
  uint32_t begin;
  uint32_t end;
  bool is_match;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Fills `out` with stretches that cover the text in order.
using Finder = std::function<void(std::string_view text, std::vector<Stretch>& out)>;

Finder find_characters(bool (*predicate)(char32_t));
Finder find_text(std::string pattern);

/// Turns stretches into the pieces [begin, end) they leave; stretches to be removed are dropped, empty ones too.
void apply_behavior(std::vector<Stretch>& stretches, SplitBehavior behavior);

void split(Pieces& pieces, const Finder& find, SplitBehavior behavior, bool invert = false);

}  // namespace deltaw::text

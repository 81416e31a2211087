#include "text/tokenizer/pieces.h"

#include <algorithm>
#include <utility>

namespace deltaw::text {
namespace {

/// Joins each stretch with the one before it where `joins(is_match, previous is_match)` says so.
template <class Joins>
void join(std::vector<Stretch>& stretches, const Joins& joins) {
  size_t count = 0;
  bool previous = false;
  for (const Stretch stretch : stretches) {
    if (count > 0 && joins(stretch.is_match, previous)) {
      stretches[count - 1].begin = std::min(stretches[count - 1].begin, stretch.begin);
      stretches[count - 1].end = std::max(stretches[count - 1].end, stretch.end);
    } else {
      stretches[count++] = stretch;
    }
    previous = stretch.is_match;
  }
  stretches.resize(count);
}

}  // namespace

Finder find_characters(bool (*predicate)(char32_t)) {
  return [predicate](std::string_view text, std::vector<Stretch>& out) {
    uint32_t done = 0;
    for (uint32_t at = 0; at < text.size();) {
      const CodePoint c = decode(text, at);
      if (predicate(c.value)) {
        if (done < at) out.push_back({done, at, false});
        out.push_back({at, at + c.bytes, true});
        done = at + c.bytes;
      }
      at += c.bytes;
    }
    if (done < text.size()) out.push_back({done, static_cast<uint32_t>(text.size()), false});
  };
}

Finder find_text(std::string pattern) {
  return [pattern = std::move(pattern)](std::string_view text, std::vector<Stretch>& out) {
    size_t done = 0;
    for (size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, done)) {
      if (done < at) out.push_back({static_cast<uint32_t>(done), static_cast<uint32_t>(at), false});
      done = at + pattern.size();
      out.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(done), true});
    }
    if (done < text.size()) out.push_back({static_cast<uint32_t>(done), static_cast<uint32_t>(text.size()), false});
  };
}

void apply_behavior(std::vector<Stretch>& stretches, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      std::erase_if(stretches, [](const Stretch& stretch) { return stretch.is_match; });
      break;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kContiguous:
      join(stretches, [](bool match, bool previous) { return match == previous; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      join(stretches, [](bool match, bool previous) { return match && !previous; });
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(stretches.begin(), stretches.end());
      join(stretches, [](bool match, bool previous) { return match && !previous; });
      std::reverse(stretches.begin(), stretches.end());
      break;
  }
  std::erase_if(stretches, [](const Stretch& stretch) { return stretch.begin == stretch.end; });
}

void split(Pieces& pieces, const Finder& find, SplitBehavior behavior, bool invert) {
  std::vector<Piece> result;
  result.reserve(pieces.list.size() * 2 + pieces.buffer.text.size() / 4);
  std::vector<Stretch> stretches;
  for (const Piece& piece : pieces.list) {
    if (piece.added >= 0) {
      result.push_back(piece);
      continue;
    }
    stretches.clear();
    find(pieces.text(piece), stretches);
    if (invert) {
      for (Stretch& stretch : stretches) stretch.is_match = !stretch.is_match;
    }
    apply_behavior(stretches, behavior);
    for (const Stretch& stretch : stretches) {
      result.push_back({piece.begin + stretch.begin, piece.begin + stretch.end, -1});
    }
  }
  pieces.list = std::move(result);
}

}  // namespace deltaw::text

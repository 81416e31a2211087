#include "text/tokenizer/truncation.h"

#include <algorithm>

#include <fmt/format.h>

#include "deltaw/error.h"

namespace deltaw::text {
namespace {

void cut(Encoding& encoding, int64_t count) {
  const auto size = static_cast<size_t>(count);
  if (size >= encoding.ids.size()) return;
  encoding.ids.resize(size);
  encoding.type_ids.resize(size);
  encoding.tokens.resize(size);
  encoding.offsets.resize(size);
  encoding.special.resize(size);
  encoding.words.resize(size);
}

}  // namespace

bool truncate(std::vector<Encoding>& parts, int64_t max_length, int64_t added) {
  const int64_t room = max_length - added;
  if (room < 0) {
    throw Error{{.id = "config.max-length",
                 .what = fmt::format("max_length is {}, but the tokenizer adds {} special tokens", max_length, added),
                 .where = "max_length",
                 .fix = fmt::format("set it to {} at least", added + 1)}};
  }
  int64_t total = 0;
  for (const Encoding& part : parts) total += static_cast<int64_t>(part.ids.size());
  if (total <= room) return false;
  if (parts.size() == 1) {
    cut(parts[0], room);
    return true;
  }
  // The shorter text stays whole while the longer one can make up for it; else they share, the longer one rounding up.
  const bool first_is_longer = parts[0].ids.size() > parts[1].ids.size();
  Encoding& shorter = parts[first_is_longer ? 1 : 0];
  Encoding& longer = parts[first_is_longer ? 0 : 1];
  const auto least = static_cast<int64_t>(shorter.ids.size());
  const int64_t kept = least <= room / 2 ? least : room / 2;
  cut(shorter, kept);
  cut(longer, room - kept);
  return true;
}

}  // namespace deltaw::text

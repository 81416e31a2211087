#include "eval/stop_texts.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace deltaw::eval {
namespace {

// Bytes at the end of `text` that `stop` begins with.
size_t overlap(const std::string& text, const std::string& stop) {
  for (size_t count = std::min(text.size(), stop.size() - 1); count > 0; --count) {
    if (text.compare(text.size() - count, count, stop, 0, count) == 0) return count;
  }
  return 0;
}

}  // namespace

std::string StopTexts::put(std::string_view piece, bool visible) {
  if (found_) return {};
  held_ += piece;
  visible_.resize(held_.size(), visible);
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t after = at + stop.size();
    if (after < end || (after == end && at < begin)) std::tie(begin, end) = std::pair(at, after);
  }
  found_ = begin != std::string::npos;
  size_t kept = 0;
  for (const std::string& stop : stops_) kept = std::max(kept, overlap(held_, stop));
  std::string certain = take(found_ ? begin : held_.size() - kept);
  if (found_) take(held_.size());
  return certain;
}

std::string StopTexts::end() {
  return take(held_.size());
}

/// The visible ones of the first bytes, which are held no longer.
std::string StopTexts::take(size_t count) {
  std::string taken;
  for (size_t i = 0; i < count; ++i) {
    if (visible_[i]) taken += held_[i];
  }
  held_.erase(0, count);
  visible_.erase(visible_.begin(), visible_.begin() + static_cast<std::ptrdiff_t>(count));
  return taken;
}

}  // namespace deltaw::eval

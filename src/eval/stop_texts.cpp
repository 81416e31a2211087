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

std::string StopTexts::put(std::string_view piece) {
  if (found_) return {};
  held_ += piece;
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
  std::string certain = held_.substr(0, found_ ? begin : held_.size() - kept);
  held_ = found_ ? std::string() : held_.substr(certain.size());
  return certain;
}

std::string StopTexts::end() {
  return std::exchange(held_, {});
}

}  // namespace deltaw::eval

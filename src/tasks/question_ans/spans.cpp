#include "tasks/question_ans/spans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace deltaw::question_ans {
namespace {

struct Span {
  int64_t begin = 0, end = 0;  // code points
  double score = 0;

  bool empty() const { return begin >= end; }
};

/// The places of the largest values, the largest first.
std::vector<int64_t> largest(const float* values, int64_t count, int64_t most) {
  std::vector<int64_t> places(static_cast<size_t>(count));
  std::iota(places.begin(), places.end(), 0);
  const auto kept = places.begin() + std::min(count, most);
  std::partial_sort(places.begin(), kept, places.end(),
                    [&](int64_t a, int64_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  places.erase(kept, places.end());
  return places;
}

void add_spans(const WindowLogits& logits, const Offsets& offsets, const AnswerOptions& options,
               std::vector<Span>& spans) {
  const Window& window = logits.window;
  const auto of_context = [&](int64_t place) {
    return place >= window.input && place < window.input + window.end - window.begin;
  };
  const auto offset = [&](int64_t place) { return offsets[static_cast<size_t>(place - window.input + window.begin)]; };
  const std::vector<int64_t> ends = largest(logits.end, logits.tokens, options.n_best_size);
  for (const int64_t start : largest(logits.start, logits.tokens, options.n_best_size)) {
    if (!of_context(start)) continue;
    for (const int64_t end : ends) {
      if (!of_context(end) || end < start || end - start + 1 > options.max_answer_length) continue;
      spans.push_back({.begin = offset(start).first,
                       .end = offset(end).second,
                       .score = static_cast<double>(logits.start[start]) + logits.end[end]});
    }
  }
}

void keep_best(std::vector<Span>& spans, int64_t most) {
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.score > b.score; });
  if (static_cast<int64_t>(spans.size()) > most) spans.resize(static_cast<size_t>(most));
}

/// Of spans in the order of their scores.
double share_of(double score, const std::vector<Span>& spans) {
  double sum = 0;
  for (const Span& span : spans) sum += std::exp(span.score - spans.front().score);
  return std::exp(score - spans.front().score) / sum;
}

}  // namespace

Said best_answer(const std::vector<WindowLogits>& windows, const Offsets& offsets, const AnswerOptions& options) {
  std::vector<Span> spans;
  double null_score = std::numeric_limits<double>::infinity();
  for (const WindowLogits& window : windows) {
    add_spans(window, offsets, options, spans);
    null_score = std::min(null_score, static_cast<double>(window.start[0]) + window.end[0]);
  }
  const Span null{.score = null_score};
  const auto is_null = [](const Span& span) { return span.empty(); };
  const bool may_be_none = options.version_2_with_negative;
  if (may_be_none) spans.push_back(null);
  keep_best(spans, options.n_best_size);
  if (may_be_none && std::none_of(spans.begin(), spans.end(), is_null)) spans.push_back(null);
  const auto best = std::find_if_not(spans.begin(), spans.end(), is_null);
  if (best == spans.end()) return {.score = may_be_none ? 1.0 : 0.0};
  const Said said{.begin = best->begin,
                  .end = best->end,
                  .score = share_of(best->score, spans),
                  .null_score_diff = null_score - best->score};
  if (!may_be_none || said.null_score_diff <= options.null_score_diff_threshold) return said;
  return {.score = share_of(null_score, spans), .null_score_diff = said.null_score_diff};
}

}  // namespace deltaw::question_ans

#include "tasks/question_ans/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::question_ans {
namespace {

/// A question and all of its context, and which tokens are the context's.
struct Pair {
  Encoding encoding;
  int64_t begin = 0, end = 0;

  int64_t tokens() const { return end - begin; }
  int64_t others() const { return static_cast<int64_t>(encoding.ids.size()) - tokens(); }
};

Pair encoded(const Question& row, const Tokenizer& tokenizer) {
  const std::string question = row.question.substr(row.question.find_first_not_of(" \t\r\n"));
  const bool context_first = tokenizer.pads_left();
  Pair pair{.encoding =
                context_first ? tokenizer.encode(*row.context, question) : tokenizer.encode(question, *row.context)};
  const auto asked = static_cast<int64_t>(tokenizer.encode(question, {.add_special_tokens = false}).ids.size());
  std::vector<int64_t> places;  // of the tokens of both texts
  for (size_t i = 0; i < pair.encoding.ids.size(); ++i) {
    if (pair.encoding.special[i] == 0) places.push_back(static_cast<int64_t>(i));
  }
  const int64_t count = static_cast<int64_t>(places.size()) - asked;
  if (count <= 0) return pair;
  pair.begin = context_first ? places.front() : places[static_cast<size_t>(asked)];
  pair.end = pair.begin + count;
  return pair;
}

/// Of the tokens of a pair those of one window.
template <class T>
std::vector<T> part(const std::vector<T>& all, const Pair& pair, int64_t begin, int64_t end) {
  std::vector<T> kept(all.begin(), all.begin() + pair.begin);
  kept.insert(kept.end(), all.begin() + pair.begin + begin, all.begin() + pair.begin + end);
  kept.insert(kept.end(), all.begin() + pair.end, all.end());
  return kept;
}

int64_t stride_for(const Pair& pair, int64_t number, int64_t max_length, int64_t stride) {
  const int64_t room = max_length - pair.others();
  if (stride == 0 && room > 1) return std::min(max_length / 3, room / 2);
  if (pair.tokens() <= room || (room > stride && room > 0)) return stride;
  throw Error(
      {.id = "data.long-question",
       .what = fmt::format("the question and special tokens take {} of max_length {}, so that {} are left for the "
                           "context in windows that share {}",
                           pair.others(), max_length, std::max<int64_t>(room, 0), stride),
       .where = fmt::format("question {}", number),
       .fix = "shorten the question, raise max_length or lower doc_stride"});
}

}  // namespace

std::vector<std::pair<int64_t, int64_t>> cut(int64_t tokens, int64_t room, int64_t stride) {
  std::vector<std::pair<int64_t, int64_t>> parts;
  for (int64_t begin = 0;; begin += room - stride) {
    parts.emplace_back(begin, std::min(begin + room, tokens));
    if (parts.back().second == tokens) return parts;
  }
}

std::pair<int64_t, int64_t> tokens_of(const Offsets& offsets, int64_t begin, int64_t end, int64_t from, int64_t to) {
  const auto at = [&](int64_t token) { return offsets[static_cast<size_t>(token)]; };
  if (begin == end || at(begin).first > from || at(end - 1).second < to) return {-1, -1};
  int64_t first = begin, last = end - 1;
  while (first + 1 < end && at(first + 1).first <= from) ++first;
  while (last > begin && at(last - 1).second >= to) --last;
  return {first, last};
}

EncodedQuestions encode_questions(const QuestionSet& set, const Tokenizer& tokenizer, int64_t max_length,
                                  int64_t stride) {
  EncodedQuestions result;
  for (const Question& row : set.rows) {
    const auto number = static_cast<int64_t>(result.offsets.size());
    const Pair pair = encoded(row, tokenizer);
    const int64_t own_stride = stride_for(pair, number + 1, max_length, stride);
    const auto& offsets = result.offsets.emplace_back(pair.encoding.offsets.begin() + pair.begin,
                                                      pair.encoding.offsets.begin() + pair.end);
    const auto parts = cut(pair.tokens(), max_length - pair.others(), own_stride);
    result.long_contexts += parts.size() > 1;
    for (const auto& [begin, end] : parts) {
      EncodedRow window{.ids = part(pair.encoding.ids, pair, begin, end), .labels = {0, 0}, .index = number};
      if (tokenizer.gives_type_ids()) window.type_ids = part(pair.encoding.type_ids, pair, begin, end);
      if (!row.answers.empty()) {
        const Answer& answer = row.answers.front();
        const int64_t answer_end = answer.start + text::count_code_points(answer.text);
        const auto [first, last] = tokens_of(offsets, begin, end, answer.start, answer_end);
        const int64_t shift = pair.begin - begin;
        if (first >= 0) window.labels = {static_cast<double>(first + shift), static_cast<double>(last + shift)};
      }
      result.rows.push_back(std::move(window));
      result.windows.push_back({.question = number, .input = pair.begin, .begin = begin, .end = end});
    }
  }
  return result;
}

AnswerWindows::AnswerWindows(QuestionSet set, EncodedQuestions encoded, int64_t pad_id, bool pads_left)
    : TextRows(std::move(encoded.rows), pad_id, pads_left),
      set_(std::move(set)),
      windows_(std::move(encoded.windows)),
      offsets_(std::move(encoded.offsets)) {}

}  // namespace deltaw::question_ans

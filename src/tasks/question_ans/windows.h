// Questions with their contexts to tokens and, where these are longer than a model reads, to windows that overlap.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/text_rows.h"
#include "tasks/question_ans/questions.h"

namespace deltaw::question_ans {

using Offsets = std::vector<std::pair<int64_t, int64_t>>;  // [begin, end) in code points

/// Where a window's part of the context stands.
struct Window {
  int64_t question = 0;
  int64_t input = 0;           // the first token of it in the row of tokens
  int64_t begin = 0, end = 0;  // tokens of the context
};

struct EncodedQuestions {
  std::vector<EncodedRow> rows;  // of each window; `labels` are the tokens where the answer starts and ends
  std::vector<Window> windows;   // likewise
  std::vector<Offsets> offsets;  // of the tokens of each question's context
  int64_t long_contexts = 0;     // of several windows
};

/// Windows of at most max_length tokens: the question, and as much of its context as fits, each begun `stride` tokens
/// before the end of the one before; where the tokenizer fills rows on the left, the context comes first. A window that
/// does not hold all of the first answer points to the row's first token, [CLS], with both labels, as in transformers'
/// run_qa. `stride` 0 is a third of max_length, less where the question leaves no room for that.
/// Throws data.long-question where a question leaves its context no more than the stride.
EncodedQuestions encode_questions(const QuestionSet& set, const Tokenizer& tokenizer, int64_t max_length,
                                  int64_t stride);

/// The windows of [begin, end) tokens of a context, of at most `room`.
std::vector<std::pair<int64_t, int64_t>> cut(int64_t tokens, int64_t room, int64_t stride);

/// The first and the last of tokens [begin, end) that code points [from, to) reach over; {-1, -1} where they hold not
/// all of these.
std::pair<int64_t, int64_t> tokens_of(const Offsets& offsets, int64_t begin, int64_t end, int64_t from, int64_t to);

/// Batches of windows: TextRows' with `labels` [rows, 2].
class AnswerWindows final : public TextRows {
 public:
  static constexpr const char* kName = "AnswerWindows";
  AnswerWindows(QuestionSet set, EncodedQuestions encoded, int64_t pad_id, bool pads_left);

  const std::vector<Question>& questions() const { return set_.rows; }
  const std::vector<Window>& windows() const { return windows_; }
  const std::vector<Offsets>& offsets() const { return offsets_; }

 private:
  QuestionSet set_;
  std::vector<Window> windows_;
  std::vector<Offsets> offsets_;
};

}  // namespace deltaw::question_ans

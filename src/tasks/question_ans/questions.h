// Reads questions, their contexts and answers from files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/data.h"

namespace deltaw::question_ans {

struct Answer {
  std::string text;
  int64_t start = 0;  // in code points of the context
};

struct Question {
  std::string question;
  std::shared_ptr<const std::string> context;  // that several questions may share; valid UTF-8
  std::vector<Answer> answers = {};            // the first one is learned; none: the context does not say
  Json id = nullptr;
};

struct QuestionSet {
  std::filesystem::path file = {};  // or what messages call several
  std::vector<Question> rows = {};
};

/// Reads SQuAD's JSON ({"data": [{"paragraphs": [...]}]}, on one line or several) or one object a question (JSON lines,
/// a JSON array, Parquet, Arrow) with `id`, `question`, `context` and `answers`. Answers are {"text": [...],
/// "answer_start": [...]} or a list of {"text", "answer_start"}. text_column, text_pair_column and label_column rename
/// question, context and answers. A question whose `is_impossible` is true has no answers.
///
/// Throws config.missing-column, config.file-format, config.no-files; data.not-text, data.empty-text; data.answers for
/// answers of any other form; data.answer-place if the first answer is not in the context at its answer_start;
/// data.empty-file; format.*; io.not-found.
QuestionSet load_questions(const DataFiles& files, const DataOptions& options, Labels use);

/// One split, as load_split: without a validation file, what validation_split holds out. max_train_samples and
/// max_eval_samples count questions. Throws config.no-data and config.unknown-task too.
QuestionSet load_question_split(const DataOptions& options, Split split, Labels use, uint64_t seed);

/// How many of the questions have no answer.
int64_t unanswerable(const QuestionSet& set);

}  // namespace deltaw::question_ans

// Files of questions about texts, with their answers.
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

/// Reads the questions of files: SQuAD's own JSON ({"data": [{"paragraphs": [...]}]}, in whatever lines), or an object
/// for each question (JSON lines or an array, Parquet, Arrow) with `id`, `question`, `context` and `answers`, which are
/// {"text": [...], "answer_start": [...]} or a list of {"text", "answer_start"}. text_column, text_pair_column and
/// label_column name other keys for question, context and answers. Where `is_impossible` is true there are no answers.
///
/// Throws config.missing-column, config.file-format, config.no-files; data.not-text, data.empty-text, data.answers
/// where answers have another form, data.answer-place where the context has not the first answer where it is said to
/// be; data.empty-file; format.*; io.not-found.
QuestionSet load_questions(const DataFiles& files, const DataOptions& options, Labels use);

/// One split, as load_split: without a validation file, what validation_split holds out. max_train_samples and
/// max_eval_samples count questions. Throws config.no-data and config.unknown-task too.
QuestionSet load_question_split(const DataOptions& options, Split split, Labels use, uint64_t seed);

bool has_validation(const DataOptions& options);

/// How many of the questions have no answer.
int64_t unanswerable(const QuestionSet& set);

/// Code points [begin, end) of a text.
std::string slice(const std::string& text, int64_t begin, int64_t end);

}  // namespace deltaw::question_ans

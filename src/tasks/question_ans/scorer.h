// Joins the logits of a question's windows into one answer, and scores the answers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/task_reader.h"
#include "tasks/question_ans/options.h"
#include "tasks/question_ans/spans.h"
#include "tasks/question_ans/squad.h"
#include "tasks/question_ans/windows.h"

namespace deltaw::question_ans {

/// The loss of starts and ends of a batch's rows, their mean, summed over the rows; padding left out.
/// logits [rows, length, 2], labels [rows, 2] places in the row without padding.
Tensor summed_loss(const Tensor& logits, const Batch& batch);

/// The place of each row's first token that is no padding: [rows] int64.
Tensor first_tokens(const Batch& batch);

class AnswerScorer final : public Scorer {
 public:
  /// `rows` that are no AnswerWindows have a loss and no other score.
  AnswerScorer(const RowSource& rows, const AnswerOptions& options);

  void add(const Outputs& outputs, const Batch& batch) override;
  /// The mean loss of a window, and SquadScores::metrics().
  Json metrics() override;
  /// {"text", "score", "start", "end"} of the question that this window is of, with version_2_with_negative also
  /// "null_score_diff".
  Json row(int64_t position) override;
  /// logits.<question>.<window> [tokens, 2], both from 0.
  std::vector<std::pair<std::string, Tensor>> tensors() override;

  Json answer(int64_t question) const;

 private:
  Said said(int64_t question) const;
  std::pair<size_t, size_t> windows_of(int64_t question) const;

  const AnswerWindows* rows_;  // or null
  AnswerOptions options_;
  std::vector<std::vector<float>> starts_, ends_;  // of each window
  double loss_ = 0;
  int64_t seen_ = 0;
};

/// What a model says of each question of `rows`.
std::unique_ptr<Predictions> predictions_of(const AskedModel& asked, std::shared_ptr<const AnswerWindows> rows,
                                            const AnswerOptions& options);

}  // namespace deltaw::question_ans

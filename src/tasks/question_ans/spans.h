// From the logits of a question's windows to its answer, as transformers' run_qa finds it.
#pragma once

#include <cstdint>
#include <vector>

#include "tasks/question_ans/options.h"
#include "tasks/question_ans/windows.h"

namespace deltaw::question_ans {

/// The logits of one window: [tokens], those of padding left out.
struct WindowLogits {
  const float* start = nullptr;
  const float* end = nullptr;
  int64_t tokens = 0;
  Window window = {};
};

struct Said {
  int64_t begin = 0, end = 0;  // code points of the context; nothing between them: there is no answer
  double score = 0;            // its share among the n_best_size best ones
  double null_score_diff = 0;  // by how much no answer is likelier than the best one
};

/// The span whose start and end logits have the largest sum: of the n_best_size best starts and ends of each window,
/// where both are of the context, the end is not before the start and they are max_answer_length tokens at most. With
/// version_2_with_negative there is none where the lowest sum that a window has for its first token, [CLS], is above
/// that by more than null_score_diff_threshold.
Said best_answer(const std::vector<WindowLogits>& windows, const Offsets& offsets, const AnswerOptions& options);

}  // namespace deltaw::question_ans

// What the keys of question answering say, under the names of transformers' run_qa.
#pragma once

#include <cstdint>

#include "deltaw/options.h"

namespace deltaw::question_ans {

struct AnswerOptions {
  int64_t doc_stride = 0;  // tokens that neighbouring windows share; 0: a third of max_length
  bool version_2_with_negative = false;
  double null_score_diff_threshold = 0;
  int64_t n_best_size = 20;
  int64_t max_answer_length = 30;  // tokens

  void fields(FieldVisitor& f);
};

}  // namespace deltaw::question_ans

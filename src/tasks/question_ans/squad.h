// Exact match and F1, computed as SQuAD's evaluation scripts do (Rajpurkar et al. 2016, arXiv:1606.05250; 2018,
// arXiv:1806.03822).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "tasks/question_ans/questions.h"

namespace deltaw::question_ans {

/// In small letters, without ASCII punctuation and the words a, an, the; one blank between words.
std::string normalised(const std::string& text);

/// 1 where both are the same when normalised, else 0.
double exact_match(const std::string& said, const std::string& right);

/// Of the words that both have, each as often as both have it; where one of them has no words, 1 if neither has, else
/// 0.
double f1(const std::string& said, const std::string& right);

class SquadScores {
 public:
  /// Scores `text` against the best match among `answers`. An empty `text` predicts that there is no answer.
  void add(const std::string& text, const std::vector<Answer>& answers);

  /// {"exact_match", "f1"}, in percent; with `parts` those of the questions with answers and without (HasAns_exact,
  /// HasAns_f1, NoAns_exact, NoAns_f1), where there are some. null for no questions.
  Json metrics(bool parts) const;

 private:
  struct Sum {
    double exact = 0, f1 = 0;
    int64_t count = 0;
  };
  Sum with_answer_, without_;
};

}  // namespace deltaw::question_ans

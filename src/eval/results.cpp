#include "eval/results.h"

#include <algorithm>
#include <cmath>

#include "deltaw/error.h"
#include "deltaw/evaluate.h"

namespace deltaw {

void EvaluationOptions::fields(FieldVisitor& f) {
  f.field(
      "protocol", protocol,
      "How a causal model is scored. perplexity: loss on the text. likelihood: the likeliest of the task's choices. "
      "generate: the answer in what it says. auto: likelihood where a task has choices, generate for other tasks, "
      "perplexity without one.",
      one_of({"auto", "perplexity", "likelihood", "generate"}));
  f.field("stride", stride,
          "Of a causal model's running text: tokens that each window of max_length adds, where a token classifier's "
          "stride is what windows share; the rest of it is context. 0: all but one.",
          at_least(0));
  f.field("max_new_tokens", max_new_tokens,
          "Tokens of a generated answer; 0: 32 for answers that are words, 256 for the rest.", at_least(0));
}

}  // namespace deltaw

namespace deltaw::eval {

void add_share(Json& results, const std::string& name, const std::vector<bool>& hits) {
  const auto count = static_cast<double>(hits.size());
  const double share = static_cast<double>(std::count(hits.begin(), hits.end(), true)) / count;
  results[name] = share;
  results[name + "_stderr"] = hits.size() < 2 ? Json() : Json(std::sqrt(share * (1 - share) / (count - 1)));
}

void check_any(bool any) {
  if (any) return;
  throw Error({.id = "data.empty-file",
               .what = "there are no rows to score",
               .where = "the evaluation data",
               .fix = "check that the file was written to its end"});
}

}  // namespace deltaw::eval

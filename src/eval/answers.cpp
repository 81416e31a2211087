#include <algorithm>

#include <fmt/format.h>

#include "core/ascii.h"
#include "deltaw/error.h"
#include "deltaw/evaluate.h"
#include "deltaw/generate.h"
#include "deltaw/model.h"
#include "eval/answer_rules.h"
#include "eval/results.h"
#include "tasks/common/check_rows.h"

namespace deltaw {
namespace {

constexpr int64_t kWordTokens = 32, kOtherTokens = 256;  // LLM-Adapters' limits

/// What a model that does not stop would write next. For GSM8K's own prompts these are the harness' stop texts; of an
/// alpaca prompt LLM-Adapters reads up to the next "### Response:".
std::vector<std::string> stop_texts(const std::vector<AnswerExample>& examples) {
  const bool questions = !examples.empty() && examples[0].prompt.starts_with("Question:");
  if (questions) return {"Question:", "</s>", "<|im_end|>"};
  return {"### Response:"};
}

GenerateOptions greedy(const LanguageModel& lm, int64_t max_new_tokens, std::vector<std::string> stop) {
  GenerateOptions options;
  options.max_new_tokens = max_new_tokens;
  options.stop = std::move(stop);
  options.eos_token_ids = end_token_ids(lm.model, lm.tokenizer, lm.taught_ends);
  options.batch_size = lm.batch_size;
  return options;
}

/// LLM-Adapters' copy of GSM8K writes whole numbers with a fraction of zero.
std::string without_zero_fraction(const std::string& number) {
  return number.ends_with(".0") ? number.substr(0, number.size() - 2) : number;
}

}  // namespace

std::vector<AnswerResult> generate_answers(const LanguageModel& lm, const TextTask& task,
                                           const std::vector<AnswerExample>& examples, int64_t max_new_tokens) {
  if (max_new_tokens == 0) max_new_tokens = task.kind == AnswerKind::word ? kWordTokens : kOtherTokens;
  const int64_t longest = tasks::longest_input(lm.model, lm.adapter), room = longest - max_new_tokens;
  if (room < 1) {
    throw Error({.id = "config.out-of-range",
                 .what = fmt::format("an answer of {} tokens leaves the prompt no room: the model reads {} in all",
                                     max_new_tokens, longest),
                 .where = "key \"max_new_tokens\"",
                 .fix = "set it to half of that or less"});
  }
  std::vector<AnswerResult> results(examples.size());
  std::vector<std::vector<int64_t>> prompts;
  for (size_t i = 0; i < examples.size(); ++i) {
    std::vector<int64_t> ids = prompt_ids(lm.tokenizer, examples[i].prompt);
    const int64_t excess = static_cast<int64_t>(ids.size()) - room;
    results[i].truncated = excess > 0;
    if (excess > 0) ids.erase(ids.begin(), ids.begin() + excess);
    prompts.push_back(std::move(ids));
  }
  TextGenerator generator(lm.model, lm.adapter, lm.tokenizer, greedy(lm, max_new_tokens, stop_texts(examples)));
  const std::vector<Generation> said = generator.run(prompts, {}, lm.progress);
  for (size_t i = 0; i < examples.size(); ++i) {
    results[i].text = trimmed(said[i].text);
    results[i].found = eval::find_answer(task, results[i].text);
    results[i].right = eval::is_right(task, results[i].found, examples[i].answer);
  }
  return results;
}

Json score_answers(const LanguageModel& lm, const TextTask& task, const std::vector<AnswerExample>& examples,
                   int64_t max_new_tokens) {
  eval::check_any(!examples.empty());
  std::vector<bool> right, strict, flexible;
  int64_t truncated = 0;
  const std::vector<AnswerResult> answers = generate_answers(lm, task, examples, max_new_tokens);
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::string number = without_zero_fraction(examples[i].answer);
    right.push_back(answers[i].right);
    strict.push_back(eval::same_number(eval::strict_number(answers[i].text), number));
    flexible.push_back(eval::same_number(eval::flexible_number(answers[i].text), number));
    truncated += answers[i].truncated ? 1 : 0;
  }
  Json results = Json::object();
  eval::add_share(results, "eval_exact_match", right);
  if (task.name == "gsm8k") {
    eval::add_share(results, "eval_exact_match_strict", strict);
    eval::add_share(results, "eval_exact_match_flexible", flexible);
  }
  results["eval_truncated"] = truncated;
  results["eval_samples"] = examples.size();
  return results;
}

}  // namespace deltaw

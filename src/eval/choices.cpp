#include <algorithm>

#include <fmt/format.h>

#include "deltaw/error.h"
#include "deltaw/evaluate.h"
#include "deltaw/model.h"
#include "deltaw/text_rows.h"
#include "eval/results.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "text/tokenizer/unicode.h"

namespace deltaw {
namespace {

std::string without_spaces_at_end(const std::string& text) {
  const std::string valid = text::repaired(text);
  std::string_view rest = valid;
  while (!rest.empty()) {
    const size_t last = text::last_start(rest);
    if (!text::is_space(text::decode(rest, last).value)) break;
    rest = rest.substr(0, last);
  }
  return std::string(rest);
}

/// Special tokens that the tokenizer put at the end.
size_t end_tokens(const Encoding& encoding) {
  const auto first = std::find(encoding.special.rbegin(), encoding.special.rend(), uint8_t{0});
  return static_cast<size_t>(first - encoding.special.rbegin());
}

/// Length of the choice itself, in characters.
double characters(const Choice& choice) {
  std::string_view text = choice.continuation;
  if (text.starts_with(' ')) text.remove_prefix(1);
  return static_cast<double>(std::max<int64_t>(text::count_code_points(text::repaired(text)), 1));
}

int64_t first_greatest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

std::string place(const ChoiceExample& example) {
  return fmt::format("row {} of the evaluation data", example.line);
}

}  // namespace

EncodedChoice encode_choice(const Tokenizer& tokenizer, const Choice& choice, int64_t max_length,
                            const std::string& where) {
  const auto refuse = [&](const char* id, std::string what, const char* fix) {
    throw Error({.id = id, .what = std::move(what), .where = where, .fix = fix});
  };
  const Encoding whole = encode_row(tokenizer, choice.context + choice.continuation);
  const size_t at_end = end_tokens(whole);
  const size_t count = whole.ids.size() - at_end;
  const Encoding context = encode_row(tokenizer, without_spaces_at_end(choice.context));
  const size_t begin = context.ids.size() - std::min(at_end, end_tokens(context));
  if (begin == 0) {
    refuse("data.empty-context", "the context is empty, and the tokenizer has no start token to stand for it",
           "give a context of one word at least");
  }
  if (begin >= count) {
    refuse("data.empty-continuation", "the continuation adds no token to its context", "give it one word at least");
  }
  const auto length = static_cast<int64_t>(count - begin);
  if (length >= max_length) {
    refuse("data.long-continuation",
           fmt::format("the continuation has {} tokens, and the model reads {} with the context", length, max_length),
           "shorten it, or take a model that reads more");
  }
  const auto dropped = std::max<int64_t>(static_cast<int64_t>(count) - max_length, 0);
  EncodedChoice encoded;
  encoded.truncated = dropped > 0;
  encoded.row.ids.assign(whole.ids.begin() + dropped, whole.ids.begin() + static_cast<int64_t>(count));
  encoded.row.token_labels = encoded.row.ids;
  std::fill_n(encoded.row.token_labels.begin(), static_cast<int64_t>(begin) - dropped, kNoLabel);
  return encoded;
}

ChoiceScores choice_log_likelihoods(const LanguageModel& lm, const std::vector<ChoiceExample>& examples) {
  const int64_t longest = tasks::longest_input(lm.model, lm.adapter);
  ChoiceScores scores;
  std::vector<EncodedRow> rows;
  for (const ChoiceExample& example : examples) {
    for (const Choice& choice : example.choices) {
      EncodedChoice encoded = encode_choice(lm.tokenizer, choice, longest, place(example));
      scores.truncated += encoded.truncated ? 1 : 0;
      encoded.row.index = static_cast<int64_t>(rows.size());
      rows.push_back(std::move(encoded.row));
    }
  }
  tasks::check_rows(lm.model, lm.adapter, rows, &lm.tokenizer);
  const CausalRows source(std::move(rows), lm.pad_id, lm.tokenizer.pads_left());
  const std::vector<RowLoss> losses = predict_losses(lm.model, lm.adapter, source, lm.batch_size, lm.progress);
  auto loss = losses.begin();
  for (const ChoiceExample& example : examples) {
    std::vector<double>& own = scores.log_likelihoods.emplace_back();
    for (size_t i = 0; i < example.choices.size(); ++i, ++loss) {
      tasks::check_finite(loss->nll, place(example));
      own.push_back(-loss->nll);
    }
  }
  return scores;
}

Json score_choices(const LanguageModel& lm, const std::vector<ChoiceExample>& examples) {
  eval::check_any(!examples.empty());
  const ChoiceScores scores = choice_log_likelihoods(lm, examples);
  std::vector<bool> right, right_by_length;
  for (size_t i = 0; i < examples.size(); ++i) {
    std::vector<double> values = scores.log_likelihoods[i];
    right.push_back(first_greatest(values) == examples[i].answer);
    for (size_t k = 0; k < values.size(); ++k) values[k] /= characters(examples[i].choices[k]);
    right_by_length.push_back(first_greatest(values) == examples[i].answer);
  }
  Json results = Json::object();
  eval::add_share(results, "eval_acc", right);
  eval::add_share(results, "eval_acc_norm", right_by_length);
  results["eval_truncated"] = scores.truncated;
  results["eval_samples"] = examples.size();
  return results;
}

}  // namespace deltaw

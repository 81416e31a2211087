// How good a causal language model is: perplexity, multiple choice by likelihood, generated answers.
//
// Each score_* function returns one JSON object with the keys that `deltaw eval` prints. Shares come with their
// standard error, sqrt(p (1 - p) / (n - 1)), as <key>_stderr: null below two rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/data.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"
#include "deltaw/text_data.h"
#include "deltaw/tokenizer.h"

namespace deltaw {

class Adapter;
class Model;

struct EvaluationOptions {
  std::string protocol = "auto";
  int64_t stride = 0;          // 0: max_length - 1
  int64_t max_new_tokens = 0;  // 0: by the kind of answer

  void fields(FieldVisitor& f);
};

/// What is scored, and how many rows go through it at once. All that it points to must outlive the call.
struct LanguageModel {
  const Model& model;
  const Adapter* adapter;  // null: the base alone
  const Tokenizer& tokenizer;
  int64_t pad_id = 0;
  int64_t batch_size = 8;
  Progress progress = {};                 // by rows
  std::vector<int64_t> taught_ends = {};  // taught_end_ids() of the adapter
};

// ---- perplexity ----

/// The windows of transformers' guide to perplexity: one of max_length tokens begins every `stride` tokens, the last
/// one that is needed ends with the text. In each, the tokens that no window before it had are scored, so each token
/// but the first is scored once, with at most max_length - stride tokens before the scored part. Windows overlap by one
/// token at least, from which the next is predicted: a stride of 0 or above max_length - 1 is max_length - 1. No rows
/// for fewer than two ids. Throws config.max-length below two tokens.
std::vector<EncodedRow> sliding_windows(const std::vector<int64_t>& ids, int64_t max_length, int64_t stride);

/// Of one running text: eval_loss (nats per token), eval_perplexity, eval_bits_per_byte, eval_word_perplexity,
/// eval_tokens, eval_samples (windows). Bytes and words are those of the text, words counted as lm-evaluation-harness
/// counts them: what runs of white space separate. With `most_windows`, all of the text that the first so many reach.
/// Throws data.no-scored-tokens, config.max-length and numeric.non-finite.
Json score_running_text(const LanguageModel& lm, const std::string& text, int64_t max_length, int64_t stride,
                        int64_t most_windows = 0);

/// Of rows with token labels: eval_loss, the mean over all labelled tokens, eval_perplexity, eval_tokens, eval_samples.
/// Throws data.no-scored-tokens and numeric.non-finite.
Json score_rows(const LanguageModel& lm, const std::vector<EncodedRow>& rows);

// ---- multiple choice ----

struct EncodedChoice {
  EncodedRow row;          // labelled where the continuation is
  bool truncated = false;  // the context lost its beginning
};

/// Context and continuation as one row, taken apart as lm-evaluation-harness does it: white space at the context's end
/// goes to the continuation; both are encoded together, with the tokenizer's own special tokens, and the continuation's
/// tokens are those after as many as the context alone has. Special tokens that the tokenizer puts at the end are left
/// out. A row of more than max_length tokens loses its beginning; the harness keeps one token more, the last one not
/// being an input. Throws data.empty-context where the tokenizer has no start token for an empty context,
/// data.empty-continuation and data.long-continuation, which name `where`.
EncodedChoice encode_choice(const Tokenizer& tokenizer, const Choice& choice, int64_t max_length,
                            const std::string& where = "a choice");

struct ChoiceScores {
  std::vector<std::vector<double>> log_likelihoods;  // of every choice of every example, in nats
  int64_t truncated = 0;                             // rows that were too long for the model
};

/// Throws what encode_choice throws, with the line, and numeric.non-finite.
ChoiceScores choice_log_likelihoods(const LanguageModel& lm, const std::vector<ChoiceExample>& examples);

/// eval_acc: the likeliest choice is the answer. eval_acc_norm: the one with the greatest log-likelihood per character
/// of the choice, its leading space not counted, is. The first of equals, as numpy's argmax. eval_truncated,
/// eval_samples. Throws data.empty-file for no examples, and what choice_log_likelihoods throws.
Json score_choices(const LanguageModel& lm, const std::vector<ChoiceExample>& examples);

// ---- generated answers ----

struct AnswerResult {
  std::string text;   // what the model said, without white space around it
  std::string found;  // the answer in it, or empty
  bool right = false;
  bool truncated = false;  // the prompt lost its beginning
};

/// Says the answer of every example greedily and looks for it as LLM-Adapters does: the first of the task's words, the
/// first capital from A to E, or the last number once commas are gone, which is right within 0.001. (LLM-Adapters
/// itself decodes by a beam search of four.) max_new_tokens 0 is theirs, 32 for words and 256 for the rest; a prompt
/// that leaves less room loses its beginning. An answer ends where a further prompt begins.
///
/// Throws config.out-of-range for a model with no room for max_new_tokens, and what TextGenerator throws.
std::vector<AnswerResult> generate_answers(const LanguageModel& lm, const TextTask& task,
                                           const std::vector<AnswerExample>& examples, int64_t max_new_tokens = 0);

/// eval_exact_match, by the rule above; for GSM8K also eval_exact_match_strict, the number after "####", and
/// eval_exact_match_flexible, the last number, both compared as text as lm-evaluation-harness does it. eval_truncated,
/// eval_samples. Throws data.empty-file for no examples, and what generate_answers throws.
Json score_answers(const LanguageModel& lm, const TextTask& task, const std::vector<AnswerExample>& examples,
                   int64_t max_new_tokens = 0);

}  // namespace deltaw

// Text from a causal model.
//
//   TextGenerator generator(model, adapter, tokenizer, options);
//   generator.run({prompt_ids(tokenizer, "Once upon a time")})[0].text
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "deltaw/options.h"
#include "deltaw/progress.h"
#include "deltaw/tokenizer.h"

namespace deltaw {

/// How tokens are chosen, with transformers' names and meanings. Scores go through repetition_penalty, temperature,
/// top_k, top_p and min_p in this order; the last four act only where the temperature is not 0.
struct GenerateOptions {
  int64_t max_new_tokens = 256;
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  std::vector<std::string> stop;
  int64_t seed = 42;

  // No keys: the checkpoint and the caller know them.
  std::vector<int64_t> eos_token_ids;  // each of them ends a row
  int64_t batch_size = 8;              // rows of one forward pass

  void fields(FieldVisitor& f);
};

/// The tokens that end a text: generation_config.json's, else config.json's (eos_token_id, one or a list), the
/// tokenizer's after them, and those that training taught. Ids that are no tokens of the model are left out with a
/// warning. Throws format.wrong-type.
std::vector<int64_t> end_token_ids(const Model& model, const Tokenizer& tokenizer,
                                   const std::vector<int64_t>& taught = {});

/// What training taught as the end of a turn (TextFacts::turn_ends), kept in generation_config.json beside the adapter;
/// empty where there is none.
std::vector<int64_t> taught_end_ids(const std::filesystem::path& adapter_folder);

/// Writes generation_config.json into the folder of an adapter or a merged checkpoint: the model's own, or what
/// transformers would make of its config.json, with all of end_token_ids(). Nothing where `taught` adds none to them.
void write_generation_config(const Model& model, const Tokenizer& tokenizer, const std::vector<int64_t>& taught,
                             const std::filesystem::path& folder);

/// What generation_config.json beside the model says: greedy unless it has do_sample, and then with transformers'
/// defaults for what it leaves open. With end_token_ids(): the tokenizer's is one of them always, since that is what
/// training puts after an answer.
GenerateOptions default_generation(const Model& model, const Tokenizer& tokenizer,
                                   const std::vector<int64_t>& taught = {});

/// Throws config.not-causal for a classifier.
void check_causal(const Model& model);

/// The text with the model's own tokens around it. Nothing but the start token, where there is one, for an empty text.
/// Text from a chat template has them already: add_special_tokens is false.
std::vector<int64_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens = true);

/// What was said after one prompt.
struct Generation {
  std::string text;             // up to the end token or the stop text, both left out
  std::vector<int64_t> tokens;  // all that the model said, those included
  int64_t prompt_tokens = 0;
  /// stop: an end token or a stop text. length: max_new_tokens, or the model has no further position. cancelled: the
  /// callback said so.
  std::string finish_reason;
};

/// Called after every token with the text that it settled, perhaps none, and returns whether the row goes on. Texts are
/// whole UTF-8 characters and never hold a part of a stop text. Put together they are Generation::text.
using OnText = std::function<bool(int64_t row, std::string_view text)>;

/// Tokens and seconds of all runs so far.
struct GenerationSpeed {
  int64_t rows = 0, prompt_tokens = 0, new_tokens = 0;
  double prompt_seconds = 0, new_seconds = 0;  // until the first token of each row was chosen, and after
};

/// Keeps what the adapter makes of the layers, which is computed once: low-rank updates stay beside the weights,
/// full-rank ones are folded into weights of their own. The adapter must stand still while it lives.
class TextGenerator {
 public:
  /// `adapter` is null for the base alone. All three must outlive the generator. Throws config.not-causal,
  /// config.empty-stop and config.out-of-range.
  TextGenerator(const Model& model, const Adapter* adapter, const Tokenizer& tokenizer, GenerateOptions options);
  ~TextGenerator();
  TextGenerator(const TextGenerator&) = delete;
  TextGenerator& operator=(const TextGenerator&) = delete;

  /// Goes on from each prompt (token ids), in batches of similar length. A row's draws follow from the seed and its
  /// place among the prompts, whatever stands in the batch beside it. `progress` counts the rows that have ended.
  /// Throws data.empty-prompt, data.long-prompt where a prompt leaves no position free, and numeric.non-finite for what
  /// the model makes of it.
  std::vector<Generation> run(const std::vector<std::vector<int64_t>>& prompts, const OnText& on_text = {},
                              const Progress& progress = {});

  const GenerationSpeed& speed() const;
  const GenerateOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace deltaw

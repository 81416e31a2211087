#include "deltaw/generate.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <numeric>
#include <optional>
#include <utility>

#include "core/files.h"
#include "core/json.h"
#include "core/json_fields.h"
#include "core/log.h"
#include "core/progress.h"
#include "deltaw/data.h"
#include "deltaw/error.h"
#include "eval/generation_config.h"
#include "eval/sampling.h"
#include "eval/stop_texts.h"
#include "models/rotary.h"
#include "ops/fixed_updates.h"
#include "tasks/common/check_rows.h"

namespace deltaw {
namespace {

// Tokens of the prompt that the text after it may depend on: the space before a word, the bytes of a character.
constexpr int64_t kTextContext = 16;

/// `longest`: tokens that the model reads, the answer included.
void check_prompt(const std::vector<int64_t>& prompt, int64_t index, int64_t longest) {
  const auto length = static_cast<int64_t>(prompt.size());
  const std::string where = fmt::format("prompt {}", index + 1);
  if (length == 0) {
    throw Error({.id = "data.empty-prompt",
                 .what = "the prompt has no tokens, and the tokenizer no start token",
                 .where = where,
                 .fix = "give at least one word"});
  }
  if (length >= longest) {
    throw Error(
        {.id = "data.long-prompt",
         .what = fmt::format("the prompt has {} tokens, and the model reads {} with the answer", length, longest),
         .where = where,
         .fix = fmt::format("cut it to {} tokens at most, from its beginning as a rule", longest - 1)});
  }
}

// One prompt and what has been said after it.
struct Row {
  Row(int64_t index, const std::vector<int64_t>& prompt, int64_t longest, const Tokenizer& tokenizer,
      const GenerateOptions& options)
      : index(index),
        history(prompt),
        limit(std::min(options.max_new_tokens, longest - static_cast<int64_t>(prompt.size()))),
        sampler(options, index),
        tokenizer(tokenizer),
        stream(tokenizer),
        stops(options.stop) {
    result.prompt_tokens = static_cast<int64_t>(prompt.size());
    const std::vector<int64_t> context(prompt.end() - std::min(kTextContext, result.prompt_tokens), prompt.end());
    size_t handed = 0;
    for (const int64_t id : context) handed += stream.put(id).size();
    const std::string whole = tokenizer.decode(context);
    pending = whole.substr(std::min(handed, whole.size()));
  }

  bool done() const { return !result.finish_reason.empty(); }

  void take(int64_t token, const std::vector<int64_t>& eos, const OnText& on_text) {
    history.push_back(token);
    result.tokens.push_back(token);
    const bool ends = std::find(eos.begin(), eos.end(), token) != eos.end();
    const bool last = ends || static_cast<int64_t>(result.tokens.size()) == limit;
    std::string text = ends ? std::string() : shown(token);
    if (last && !stops.found()) text += stops.put(without_prompt(stream.end()));
    if (last && !stops.found()) text += stops.end();
    if (ends || stops.found()) {
      result.finish_reason = "stop";
    } else if (last) {
      result.finish_reason = "length";
    }
    result.text += text;
    if (on_text && !on_text(index, text) && !done()) result.finish_reason = "cancelled";
  }

  /// The text that is certain now. Special tokens are no text, but stop texts may name them.
  std::string shown(int64_t token) {
    std::string text = stops.put(without_prompt(stream.put(token)));
    if (tokenizer.is_special(token)) text += stops.put(*tokenizer.id_to_token(token), /*visible=*/false);
    return text;
  }

  /// The prompt's text is not the answer's, nor is what the stream held of it for want of a next token, as it holds
  /// bytes.
  std::string without_prompt(std::string text) {
    if (text.empty()) return text;
    if (text.starts_with(pending)) text.erase(0, pending.size());
    pending.clear();
    return text;
  }

  int64_t index;  // among the prompts
  std::vector<int64_t> history;
  int64_t limit;  // of new tokens
  eval::Sampler sampler;
  const Tokenizer& tokenizer;
  TextStream stream;
  std::string pending;  // text of the prompt that the stream has not handed out
  eval::StopTexts stops;
  Generation result;
};

int64_t longest_row(const std::deque<Row>& rows, const std::vector<int64_t>& alive) {
  size_t length = 0;
  for (const int64_t row : alive) length = std::max(length, rows[static_cast<size_t>(row)].history.size());
  return static_cast<int64_t>(length);
}

// All tokens of these rows with their padding on the left, so that the last column holds the last token of each.
ModelInput padded(const std::deque<Row>& rows, const std::vector<int64_t>& alive) {
  const int64_t length = longest_row(rows, alive);
  const auto count = static_cast<int64_t>(alive.size());
  ModelInput input{.input_ids = at::zeros({count, length}, at::kLong),
                   .attention_mask = at::zeros({count, length}, at::kLong)};
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int64_t>& ids = rows[static_cast<size_t>(alive[static_cast<size_t>(i)])].history;
    const int64_t begin = length - static_cast<int64_t>(ids.size());
    std::copy(ids.begin(), ids.end(), input.input_ids.mutable_data_ptr<int64_t>() + i * length + begin);
    input.attention_mask[i].narrow(0, begin, length - begin).fill_(1);
  }
  return input;
}

}  // namespace

void GenerateOptions::fields(FieldVisitor& f) {
  f.field("max_new_tokens", max_new_tokens, "Tokens to say at most.", at_least(1));
  f.field("temperature", temperature,
          "0 takes the likeliest token each time, greater values draw; the checkpoint's generation_config.json may "
          "say so for it, as for the four below.",
          at_least(0));
  f.field("top_k", top_k, "Draw from the likeliest tokens only; 0: from all.", at_least(0));
  f.field("top_p", top_p, "Draw from the likeliest tokens that hold this much of the probability.", between(0, 1));
  f.field("min_p", min_p, "Leave out what is less likely than this share of the likeliest token.", between(0, 1));
  f.field("repetition_penalty", repetition_penalty, "Above 1: tokens of the prompt and the answer become less likely.",
          above(0));
  f.field(
      "stop", stop,
      "Texts that end the answer and are left out of it; they may name special tokens, which are no text otherwise.");
  f.field("seed", seed, "The same seed draws the same text, or the same pictures.", at_least(0));
}

GenerateOptions default_generation(const Model& model, const Tokenizer& tokenizer, const std::vector<int64_t>& taught) {
  GenerateOptions options;
  const eval::GenerationConfig config(model.folder());
  if (config.exists) {
    const bool samples = config.value("do_sample") == Json(true);
    if (samples) {
      options.temperature = 1;
      options.top_k = 50;
    }
    Json known = Json::object();
    for (const char* key : {"max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"}) {
      known[key] = config.value(key);
    }
    read_fields(fields_of(options), known, config.file.string());
    if (!samples) options.temperature = 0;
  }
  options.eos_token_ids = end_token_ids(model, tokenizer, taught);
  return options;
}

void check_causal(const Model& model) {
  if (model.is_causal()) return;
  throw Error({.id = "config.not-causal",
               .what = fmt::format("{} is a classifier: it has labels to give, no text", model.architecture()),
               .where = model.folder().string(),
               .fix = "name a causal language model, or ask this one with `deltaw predict`"});
}

std::vector<int64_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens) {
  std::vector<int64_t> ids = encode_row(tokenizer, text, add_special_tokens).ids;
  if (ids.empty() && tokenizer.bos_id()) ids.push_back(*tokenizer.bos_id());
  return ids;
}

struct TextGenerator::Impl {
  const Model& model;
  const Adapter* adapter;
  const Tokenizer& tokenizer;
  GenerateOptions options;
  std::optional<FixedUpdates> fixed;
  int64_t longest = 0;       // tokens of a row, its answer included
  int64_t short_length = 0;  // of a row, beyond which all its positions turn by other angles; 0: none do
  GenerationSpeed speed;

  // Scores of what follows the last column: [rows, vocabulary]. The head sees that column alone.
  Tensor next_scores(const ModelInput& input, KeyValueCache& cache) {
    Call call{.adapter = adapter, .cache = &cache, .fixed = fixed ? &*fixed : nullptr};
    const Tensor features = model.features(input, call);
    return model.logits(features.select(1, features.size(1) - 1), call);
  }

  // Chooses a token for each row that goes on; returns those that still do.
  std::vector<int64_t> take(const Tensor& scores, std::deque<Row>& rows, const std::vector<int64_t>& alive,
                            const OnText& on_text) {
    std::vector<int64_t> kept;
    for (size_t i = 0; i < alive.size(); ++i) {
      Row& row = rows[static_cast<size_t>(alive[i])];
      const int64_t token = row.sampler.next(scores[static_cast<int64_t>(i)], row.history);
      row.take(token, options.eos_token_ids, on_text);
      if (!row.done()) kept.push_back(static_cast<int64_t>(i));
    }
    return kept;
  }

  void run_batch(std::deque<Row>& rows, const OnText& on_text, const std::function<void(size_t)>& on_end) {
    const auto start = std::chrono::steady_clock::now();
    KeyValueCache cache;
    std::vector<int64_t> alive(rows.size());
    std::iota(alive.begin(), alive.end(), int64_t{0});
    ModelInput input = padded(rows, alive);
    bool was_long = longest_row(rows, alive) > short_length;
    Tensor scores = next_scores(input, cache);
    double prompt_seconds = -1;
    while (true) {
      const std::vector<int64_t> kept = take(scores, rows, alive, on_text);
      if (prompt_seconds < 0) prompt_seconds = seconds_since(start);
      if (kept.size() < alive.size()) on_end(alive.size() - kept.size());
      if (kept.empty()) break;
      if (kept.size() < alive.size()) {
        const Tensor places = at::tensor(kept, at::kLong);
        cache.select(places);
        input.attention_mask = input.attention_mask.index_select(0, places);
        std::vector<int64_t> left;
        for (const int64_t place : kept) left.push_back(alive[static_cast<size_t>(place)]);
        alive = std::move(left);
      }
      if (const bool is_long = longest_row(rows, alive) > short_length; is_long != was_long && short_length > 0) {
        was_long = is_long;
        cache = KeyValueCache();  // whose keys were turned by other angles
        input = padded(rows, alive);
        scores = next_scores(input, cache);
        continue;
      }
      std::vector<int64_t> last;
      for (const int64_t row : alive) last.push_back(rows[static_cast<size_t>(row)].history.back());
      const auto count = static_cast<int64_t>(alive.size());
      input.input_ids = at::tensor(last, at::kLong).view({count, 1});
      input.attention_mask = at::cat({input.attention_mask, at::ones({count, 1}, at::kLong)}, 1);
      scores = next_scores(input, cache);
    }
    speed.prompt_seconds += prompt_seconds;
    speed.new_seconds += seconds_since(start) - prompt_seconds;
    speed.rows += static_cast<int64_t>(rows.size());
    for (const Row& row : rows) {
      speed.prompt_tokens += row.result.prompt_tokens;
      speed.new_tokens += static_cast<int64_t>(row.result.tokens.size());
    }
  }
};

TextGenerator::TextGenerator(const Model& model, const Adapter* adapter, const Tokenizer& tokenizer,
                             GenerateOptions options) {
  check_causal(model);
  read_fields(fields_of(options), write_fields(fields_of(options)), "options of the generation");  // checks the ranges
  if (std::find(options.stop.begin(), options.stop.end(), "") != options.stop.end()) {
    throw Error({.id = "config.empty-stop",
                 .what = "a stop text is empty, so the answer would be",
                 .where = "key 'stop'",
                 .fix = "leave it out, or give the text that ends an answer"});
  }
  impl_.reset(new Impl{.model = model, .adapter = adapter, .tokenizer = tokenizer, .options = std::move(options)});
  impl_->options.batch_size = std::max<int64_t>(impl_->options.batch_size, 1);
  impl_->longest = tasks::longest_input(model, adapter);
  impl_->short_length = length_of_other_turns(model.config());
  if (adapter) impl_->fixed.emplace(*adapter);
}

TextGenerator::~TextGenerator() = default;

std::vector<Generation> TextGenerator::run(const std::vector<std::vector<int64_t>>& prompts, const OnText& on_text,
                                           const Progress& progress) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < prompts.size(); ++i) {
    check_prompt(prompts[i], static_cast<int64_t>(i), impl_->longest);
    tasks::check_ids(impl_->model, prompts[i], fmt::format("prompt {}", i + 1), &impl_->tokenizer);
    lengths.push_back(static_cast<int64_t>(prompts[i].size()));
  }
  std::vector<Generation> results(prompts.size());
  int64_t ended = 0;
  const auto on_end = [&](size_t rows) {
    ended += static_cast<int64_t>(rows);
    if (progress) progress(ended, static_cast<int64_t>(prompts.size()));
  };
  for (const std::vector<int64_t>& batch : plan_evaluation(lengths, impl_->options.batch_size)) {
    std::deque<Row> rows;
    for (const int64_t index : batch) {
      rows.emplace_back(index, prompts[static_cast<size_t>(index)], impl_->longest, impl_->tokenizer, impl_->options);
    }
    impl_->run_batch(rows, on_text, on_end);
    for (Row& row : rows) results[static_cast<size_t>(row.index)] = std::move(row.result);
  }
  return results;
}

const GenerationSpeed& TextGenerator::speed() const {
  return impl_->speed;
}

const GenerateOptions& TextGenerator::options() const {
  return impl_->options;
}

}  // namespace deltaw

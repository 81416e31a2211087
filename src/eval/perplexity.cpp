#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "deltaw/error.h"
#include "deltaw/evaluate.h"
#include "deltaw/text_rows.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "text/tokenizer/unicode.h"

namespace deltaw {
namespace {

/// What all rows come to. Throws where there is nothing to score.
RowLoss total_loss(const LanguageModel& lm, std::vector<EncodedRow> rows) {
  tasks::check_rows(lm.model, lm.adapter, rows, &lm.tokenizer);
  const CausalRows source(std::move(rows), lm.pad_id, lm.tokenizer.pads_left());
  const RowLoss sum = tasks::sum_of(predict_losses(lm.model, lm.adapter, source, lm.batch_size, lm.progress));
  if (sum.tokens > 0) return sum;
  throw Error({.id = "data.no-scored-tokens",
               .what = "no token has another one before it that it could be predicted from",
               .where = "the evaluation data",
               .fix = "give a longer text"});
}

Json per_token(const RowLoss& sum) {
  const Json scores = tasks::mean_loss(sum, "the logits of the evaluation data");
  Json results = Json::object();
  for (const auto& [name, value] : scores.items()) results["eval_" + name] = value;
  return results;
}

/// Bytes that the first `count` code points take.
size_t bytes_of(std::string_view text, int64_t count) {
  size_t at = 0;
  for (; count > 0 && at < text.size(); --count) at += text::width(text[at]);
  return std::min(at, text.size());
}

/// What runs of white space separate, an empty piece at either end included.
int64_t count_words(std::string_view text) {
  int64_t words = 1;
  bool in_space = false;
  for (size_t at = 0; at < text.size();) {
    const auto [value, bytes] = text::decode(text, at);
    const bool space = text::is_space(value);
    if (space && !in_space) ++words;
    in_space = space;
    at += bytes;
  }
  return words;
}

}  // namespace

std::vector<EncodedRow> sliding_windows(const std::vector<int64_t>& ids, int64_t max_length, int64_t stride) {
  if (max_length < 2) {
    throw Error({.id = "config.max-length",
                 .what = fmt::format("a window of {} tokens has none to predict another from", max_length),
                 .where = "key \"max_length\"",
                 .fix = "set it to 2 at least; the model's own length is best"});
  }
  const int64_t step = stride == 0 ? max_length - 1 : std::min(stride, max_length - 1);
  const auto count = static_cast<int64_t>(ids.size());
  std::vector<EncodedRow> rows;
  for (int64_t begin = 0, scored = 1; scored < count; begin += step) {
    const int64_t end = std::min(begin + max_length, count);
    EncodedRow row{.ids = {ids.begin() + begin, ids.begin() + end}, .index = static_cast<int64_t>(rows.size())};
    row.token_labels = row.ids;
    std::fill_n(row.token_labels.begin(), scored - begin, kNoLabel);
    rows.push_back(std::move(row));
    scored = end;
  }
  return rows;
}

Json score_running_text(const LanguageModel& lm, const std::string& text, int64_t max_length, int64_t stride,
                        int64_t most_windows) {
  const std::string repaired = text::repaired(text);
  std::string_view reached = repaired;
  const Encoding encoding = encode_row(lm.tokenizer, repaired);
  std::vector<EncodedRow> rows = sliding_windows(encoding.ids, max_length, stride);
  if (most_windows > 0 && static_cast<int64_t>(rows.size()) > most_windows) {
    rows.resize(static_cast<size_t>(most_windows));
    size_t tokens = 1;  // the first one is scored by none
    for (const EncodedRow& row : rows) {
      tokens +=
          row.ids.size() - static_cast<size_t>(std::count(row.token_labels.begin(), row.token_labels.end(), kNoLabel));
    }
    reached = reached.substr(0, bytes_of(reached, encoding.offsets[tokens - 1].second));
  }
  const size_t windows = rows.size();
  const RowLoss sum = total_loss(lm, std::move(rows));
  Json results = per_token(sum);
  results["eval_bits_per_byte"] = sum.nll / static_cast<double>(reached.size()) / std::log(2.0);
  results["eval_word_perplexity"] = std::exp(sum.nll / static_cast<double>(count_words(reached)));
  results["eval_tokens"] = sum.tokens;
  results["eval_samples"] = windows;
  return results;
}

Json score_rows(const LanguageModel& lm, const std::vector<EncodedRow>& rows) {
  const RowLoss sum = total_loss(lm, rows);
  Json results = per_token(sum);
  results["eval_tokens"] = sum.tokens;
  results["eval_samples"] = rows.size();
  return results;
}

}  // namespace deltaw

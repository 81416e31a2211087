#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/files.h"
#include "eval/counting_model.h"
#include "support/data.h"

namespace deltaw {
namespace {

using test::Counting;
using test::error_of;
using test::fixture;

const std::vector<std::string> kWords = {"a", "b", "c", "d", "e"};

std::vector<int64_t> numbered(int64_t count) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 100);
  return ids;
}

TEST(SlidingWindows, ScoreEachTokenButTheFirstOnce) {
  for (const int64_t count : {0, 1, 2, 3, 9, 10, 11, 37, 100}) {
    for (const int64_t length : {2, 3, 5, 10, 64}) {
      for (const int64_t stride : {0, 1, 2, 4, 9, 1000}) {
        const int64_t step = stride == 0 ? length - 1 : std::min(stride, length - 1);
        const std::vector<EncodedRow> rows = sliding_windows(numbered(count), length, stride);
        int64_t next = 1;  // to be scored
        for (size_t i = 0; i < rows.size(); ++i) {
          const auto& [ids, labels] = std::pair(rows[i].ids, rows[i].token_labels);
          ASSERT_EQ(ids.size(), labels.size());
          EXPECT_LE(static_cast<int64_t>(ids.size()), length);
          EXPECT_EQ(ids.front(), 100 + static_cast<int64_t>(i) * step);
          const auto context = std::count(labels.begin(), labels.end(), kNoLabel);
          EXPECT_GE(context, 1);
          EXPECT_LE(context, i == 0 ? 1 : length - step);
          for (size_t k = static_cast<size_t>(context); k < ids.size(); ++k, ++next) {
            EXPECT_EQ(labels[k], 100 + next);
            EXPECT_EQ(ids[k], 100 + next);
          }
        }
        EXPECT_EQ(next, std::max<int64_t>(count, 1)) << count << " tokens, " << length << ", " << stride;
      }
    }
  }
}

TEST(SlidingWindows, RefuseALengthWithNoRoomForContext) {
  EXPECT_EQ(error_of([] { sliding_windows({1, 2, 3}, 1, 0); }).id(), "config.max-length");
}

TEST(ScoreRunningText, IsTheSumOverItsWindows) {
  Counting counting(kWords, 16);
  counting.model.draw_table(3);
  const std::string text = "a b\nc  d e a a b e d c b a c e d b b a d e c";
  const std::vector<int64_t> ids = counting.tokenizer.encode(text).ids;
  const auto count = static_cast<int64_t>(ids.size());
  ASSERT_EQ(count, 24);  // [CLS] and [SEP]

  const double whole = counting.nll(ids, 0, 1, 10) + counting.nll(ids, 9, 10, 19) + counting.nll(ids, 18, 19, count);
  Json scores = score_running_text(counting.lm(), text, 10, 0);
  EXPECT_NEAR(scores["eval_loss"].get<double>(), whole / 23, 1e-5);
  EXPECT_NEAR(scores["eval_perplexity"].get<double>(), std::exp(whole / 23), 1e-3);
  EXPECT_NEAR(scores["eval_bits_per_byte"].get<double>(), whole / static_cast<double>(text.size()) / std::log(2), 1e-5);
  EXPECT_NEAR(std::log(scores["eval_word_perplexity"].get<double>()), whole / 22, 1e-5);
  EXPECT_EQ(scores["eval_tokens"], 23);
  EXPECT_EQ(scores["eval_samples"], 3);

  const double halves = counting.nll(ids, 0, 1, 10) + counting.nll(ids, 5, 10, 15) + counting.nll(ids, 10, 15, 20) +
                        counting.nll(ids, 15, 20, count);
  scores = score_running_text(counting.lm(), text, 10, 5);
  EXPECT_NEAR(scores["eval_loss"].get<double>(), halves / 23, 1e-5);
  EXPECT_EQ(scores["eval_tokens"], 23);
  EXPECT_EQ(scores["eval_samples"], 4);
  EXPECT_GT(std::abs(halves - whole), 0.1) << "the windows should matter";
}

TEST(ScoreRunningText, CountsBytesAndWordsOfWhatALimitReaches) {
  Counting counting(kWords, 16);
  counting.model.draw_table(3);
  const std::string text = "a b c \xC3\xA9 d e a a b e d c b a c";
  const std::vector<int64_t> ids = counting.tokenizer.encode(text).ids;
  const double reached = counting.nll(ids, 0, 1, 6);
  const Json scores = score_running_text(counting.lm(), text, 6, 0, 1);
  EXPECT_EQ(scores["eval_samples"], 1);
  EXPECT_EQ(scores["eval_tokens"], 5);  // a b c e d, read behind [CLS]
  EXPECT_NEAR(scores["eval_bits_per_byte"].get<double>(), reached / 10 / std::log(2), 1e-5);
  EXPECT_NEAR(std::log(scores["eval_word_perplexity"].get<double>()), reached / 5, 1e-5);
  EXPECT_EQ(score_running_text(counting.lm(), text, 6, 0, 1000), score_running_text(counting.lm(), text, 6, 0));
}

TEST(ScoreRunningText, CountsWordsAsASplitAtWhiteSpaceDoes) {
  Counting counting(kWords, 16);
  const Json scores = score_running_text(counting.lm(),
                                         " a \t b\xE2\x80\x83"
                                         "c\n",
                                         16, 0);  // "", a, b, c, ""
  const double nll = scores["eval_loss"].get<double>() * scores["eval_tokens"].get<double>();
  EXPECT_NEAR(std::log(scores["eval_word_perplexity"].get<double>()), nll / 5, 1e-9);
}

TEST(ScoreRows, IsTheMeanOverLabelledTokens) {
  Counting counting(kWords, 16);
  counting.model.draw_table(4);
  std::vector<EncodedRow> rows;
  rows.push_back({.ids = {5, 6, 7, 8}, .token_labels = {kNoLabel, kNoLabel, 7, 8}});
  rows.push_back({.ids = {9, 6, 5, 5, 7, 6}, .token_labels = {kNoLabel, 6, 5, 5, 7, 6}});
  const double nll = counting.nll(rows[0].ids, 0, 2, 4) + counting.nll(rows[1].ids, 0, 1, 6);
  const Json scores = score_rows(counting.lm(), rows);
  EXPECT_NEAR(scores["eval_loss"].get<double>(), nll / 7, 1e-5);
  EXPECT_NEAR(scores["eval_perplexity"].get<double>(), std::exp(nll / 7), 1e-3);
  EXPECT_EQ(scores["eval_tokens"], 7);
  EXPECT_EQ(scores["eval_samples"], 2);
}

TEST(ScoreRows, RefusesWhatHasNoScore) {
  Counting counting(kWords, 16);
  EXPECT_EQ(error_of([&] { score_rows(counting.lm(), {}); }).id(), "data.no-scored-tokens");
  EXPECT_EQ(error_of([&] { score_rows(counting.lm(), {{.ids = {5}, .token_labels = {kNoLabel}}}); }).id(),
            "data.no-scored-tokens");
  counting.model.table.fill_(std::nan(""));
  EXPECT_EQ(error_of([&] { score_running_text(counting.lm(), "a b", 8, 0); }).id(), "numeric.non-finite");
}

// ---- a real checkpoint ----

TEST(PerplexityStories, IsThatOfTransformers) {
  DELTAW_NEEDS_DATA(folder, "models/stories260k_hf");
  DELTAW_NEEDS_DATA(file, "tinyshakespeare/input.txt");
  const Json golden = read_json(fixture("golden/evaluation/perplexity.json"));
  const auto model = load_model(folder.string(), {.dtype = "float32"});
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  const LanguageModel lm{*model, nullptr, tokenizer, /*pad_id=*/0, /*batch_size=*/4};
  const std::string text = read_file(file).substr(0, golden["text_bytes"].get<size_t>());
  for (const Json& expected : golden["cases"]) {
    const Json scores =
        score_running_text(lm, text, golden["max_length"].get<int64_t>(), expected["stride"].get<int64_t>());
    const auto near = [&](const char* name, const char* key) {
      const auto value = expected[key].get<double>();
      EXPECT_NEAR(scores[name].get<double>(), value, 1e-4 * value) << name << ", stride " << expected["stride"];
    };
    near("eval_perplexity", "perplexity");
    near("eval_bits_per_byte", "bits_per_byte");
    near("eval_word_perplexity", "word_perplexity");
    EXPECT_EQ(scores["eval_tokens"], expected["tokens"]);
  }
  const Json& own = golden["own_words"];
  const std::vector<EncodedRow> rows = sliding_windows(own["ids"].get<std::vector<int64_t>>(), 512, 0);
  const Json scores = score_rows(lm, rows);
  EXPECT_NEAR(scores["eval_loss"].get<double>(), own["nll"].get<double>() / 124, 1e-5);
  EXPECT_NEAR(scores["eval_loss"].get<double>(), 0.490, 5e-4);  // what is known of it otherwise
}

}  // namespace
}  // namespace deltaw

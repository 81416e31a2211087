#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/files.h"
#include "eval/counting_model.h"
#include "support/data.h"

namespace deltaw {
namespace {

using test::Counting;
using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

using Ids = std::vector<int64_t>;

// Byte-level BPE whose words begin with their space.
constexpr const char* kSpacedWords = R"({
  "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
  "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
  "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"<s>": 0, "a": 1, "b": 2, "c": 3, "\u0120": 4, "\u0120b": 5, "\u0120c": 6},
            "merges": ["\u0120 b", "\u0120 c"]}
})";

constexpr const char* kPostProcessor = R"({
  "type": "TemplateProcessing",
  "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
  "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
})";

struct SpacedWords {
  TemporaryFolder folder;
  Tokenizer with_start = make(true), without_start = make(false);

  Tokenizer make(bool start) const {
    Json file = Json::parse(kSpacedWords);
    if (start) file["post_processor"] = Json::parse(kPostProcessor);
    return Tokenizer::from_file(put(folder / (start ? "with.json" : "without.json"), file.dump()));
  }
};

TEST(EncodeChoice, SplitsBehindTheTokensOfTheContext) {
  const SpacedWords words;
  const EncodedChoice plain = encode_choice(words.with_start, {"a b", " c b"}, 16);
  EXPECT_EQ(plain.row.ids, (Ids{0, 1, 5, 6, 5}));
  EXPECT_EQ(plain.row.token_labels, (Ids{kNoLabel, kNoLabel, kNoLabel, 6, 5}));
  EXPECT_FALSE(plain.truncated);
  const EncodedChoice without = encode_choice(words.without_start, {"a b", " c b"}, 16);
  EXPECT_EQ(without.row.token_labels, (Ids{kNoLabel, kNoLabel, 6, 5}));
}

TEST(EncodeChoice, MovesSpacesToTheContinuation) {
  const SpacedWords words;
  const EncodedChoice moved = encode_choice(words.with_start, {"a b ", "c"}, 16);
  EXPECT_EQ(moved.row.ids, (Ids{0, 1, 5, 6}));
  EXPECT_EQ(moved.row.token_labels, (Ids{kNoLabel, kNoLabel, kNoLabel, 6}));
}

TEST(EncodeChoice, LosesTheBeginningOfALongContext) {
  const SpacedWords words;
  const EncodedChoice exact = encode_choice(words.with_start, {"a b b b", " c b"}, 7);
  EXPECT_FALSE(exact.truncated);
  EXPECT_EQ(exact.row.ids.size(), 7u);
  const EncodedChoice cut = encode_choice(words.with_start, {"a b b b", " c b"}, 3);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.row.ids, (Ids{5, 6, 5}));
  EXPECT_EQ(cut.row.token_labels, (Ids{kNoLabel, 6, 5}));
  const Error error = error_of([&] { encode_choice(words.with_start, {"a", " c b c"}, 3, "row 7"); });
  EXPECT_EQ(error.id(), "data.long-continuation");
  EXPECT_EQ(error.parts().where, "row 7");
}

TEST(EncodeChoice, NeedsSomethingToPredictFromAndSomethingToPredict) {
  const SpacedWords words;
  EXPECT_EQ(encode_choice(words.with_start, {"", " c"}, 8).row.token_labels, (Ids{kNoLabel, 6}));
  EXPECT_EQ(error_of([&] { encode_choice(words.without_start, {"", " c"}, 8); }).id(), "data.empty-context");
  EXPECT_EQ(error_of([&] { encode_choice(words.with_start, {"a", ""}, 8); }).id(), "data.empty-continuation");
}

TEST(EncodeChoice, LeavesOutTheTokensThatATokenizerPutsAtTheEnd) {
  const Counting counting({"a", "b", "c"}, 16);
  const EncodedChoice choice = encode_choice(counting.tokenizer, {"a b", " c"}, 16);
  EXPECT_EQ(choice.row.ids, (Ids{2, 5, 6, 7}));  // [CLS] a b c
  EXPECT_EQ(choice.row.token_labels, (Ids{kNoLabel, kNoLabel, kNoLabel, 7}));
}

std::vector<ChoiceExample> three_examples() {
  return {{.choices = {{"a", " b"}, {"a", " c c"}}, .answer = 0, .line = 1},
          {.choices = {{"b a", " a"}, {"b a", " b b b"}, {"b a", " c"}}, .answer = 1, .line = 2},
          {.choices = {{"c", " a b"}, {"c", " b"}}, .answer = 1, .line = 3}};
}

TEST(ScoreChoices, SumsTheLogLikelihoodsOfEachContinuation) {
  Counting counting({"a", "b", "c"}, 16);
  counting.model.draw_table(5);
  const std::vector<ChoiceExample> examples = three_examples();
  const ChoiceScores scores = choice_log_likelihoods(counting.lm(), examples);
  ASSERT_EQ(scores.log_likelihoods.size(), 3u);
  for (size_t i = 0; i < examples.size(); ++i) {
    ASSERT_EQ(scores.log_likelihoods[i].size(), examples[i].choices.size());
    for (size_t k = 0; k < examples[i].choices.size(); ++k) {
      const Choice& choice = examples[i].choices[k];
      const auto before = static_cast<int64_t>(counting.tokenizer.encode(choice.context).ids.size()) - 1;
      const Ids ids = counting.tokenizer.encode(choice.context + choice.continuation).ids;
      EXPECT_NEAR(scores.log_likelihoods[i][k], -counting.nll(ids, 0, before, static_cast<int64_t>(ids.size()) - 1),
                  1e-5);
    }
  }
}

TEST(ScoreChoices, TakesTheLikeliestAndTheLikeliestByLength) {
  Counting counting({"a", "b", "c"}, 16);
  // Every token is as likely as any other: the shortest choice wins, and by length in characters the longest, since
  // spaces count and are free.
  const Json scores = score_choices(counting.lm(), three_examples());
  EXPECT_NEAR(scores["eval_acc"].get<double>(), 2.0 / 3, 1e-12);       // b; a, the first of equals; b
  EXPECT_NEAR(scores["eval_acc_norm"].get<double>(), 1.0 / 3, 1e-12);  // c c; b b b; a b
  EXPECT_NEAR(scores["eval_acc_stderr"].get<double>(), std::sqrt(2.0 / 9 / 2), 1e-12);
  EXPECT_NEAR(scores["eval_acc_norm_stderr"].get<double>(), std::sqrt(2.0 / 9 / 2), 1e-12);
  EXPECT_EQ(scores["eval_truncated"], 0);
  EXPECT_EQ(scores["eval_samples"], 3);
}

// One token of one character stands against two of three: with their spaces they would be equal.
TEST(ScoreChoices, CountsNoSpaceBeforeAChoice) {
  Counting counting({"a", "b", "c"}, 16);
  const std::vector<ChoiceExample> examples = {{.choices = {{"a", " b"}, {"a", " c c"}}, .answer = 1, .line = 1}};
  EXPECT_EQ(score_choices(counting.lm(), examples)["eval_acc_norm"], 1.0);
}

TEST(ScoreChoices, CountsCharactersNotBytes) {
  Counting counting({"a", "b", "c"}, 16);
  // Unknown words: one token each. Three characters in six bytes stand against four in four.
  const std::vector<ChoiceExample> examples = {
      {.choices = {{"a", " \xC3\xA9\xC3\xA9\xC3\xA9"}, {"a", " xyzz"}}, .answer = 1, .line = 1}};
  const Json scores = score_choices(counting.lm(), examples);
  EXPECT_EQ(scores["eval_acc"], 0.0);
  EXPECT_EQ(scores["eval_acc_norm"], 1.0);
  EXPECT_TRUE(scores["eval_acc_stderr"].is_null());
}

TEST(ScoreChoices, NamesTheRowThatCannotBeScored) {
  Counting counting({"a", "b", "c"}, 4);
  EXPECT_EQ(
      score_choices(counting.lm(), {{.choices = {{"a b a b a", " b"}}, .answer = 0, .line = 1}})["eval_truncated"], 1);
  const Error error = error_of([&] {
    score_choices(counting.lm(), {{.choices = {{"a", " b a b c"}}, .answer = 0, .line = 12}});
  });
  EXPECT_EQ(error.id(), "data.long-continuation");
  EXPECT_NE(error.parts().where.find("row 12"), std::string::npos);
  EXPECT_EQ(error_of([&] { score_choices(counting.lm(), {}); }).id(), "data.empty-file");
  counting.model.table.fill_(std::nan(""));
  EXPECT_EQ(error_of([&] { score_choices(counting.lm(), three_examples()); }).id(), "numeric.non-finite");
}

// ---- a real checkpoint ----

TEST(ChoicesStories, AreThoseOfTransformers) {
  DELTAW_NEEDS_DATA(folder, "models/stories260k_hf");
  DELTAW_NEEDS_DATA(file, "llm_adapters/ARC-Easy/test.json");
  const Json golden = read_json(fixture("golden/evaluation/choices.json"));
  const auto model = load_model(folder.string(), {.dtype = "float32"});
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  const LanguageModel lm{*model, nullptr, tokenizer, /*pad_id=*/0, /*batch_size=*/8};
  std::vector<ChoiceExample> examples = load_choices(*find_text_task("arc_easy"), file);
  examples.resize(golden["rows"].size());
  const ChoiceScores scores = choice_log_likelihoods(lm, examples);
  for (size_t i = 0; i < examples.size(); ++i) {
    const Json& expected = golden["rows"][i];
    const auto values = expected["log_likelihoods"].get<std::vector<double>>();
    ASSERT_EQ(scores.log_likelihoods[i].size(), values.size()) << "row " << i;
    EXPECT_EQ(examples[i].answer, expected["answer"]) << "row " << i;
    for (size_t k = 0; k < values.size(); ++k) {
      EXPECT_NEAR(scores.log_likelihoods[i][k], values[k], 1e-5 * std::abs(values[k]) + 1e-4)
          << "row " << i << ", choice " << k;
    }
  }
  const Json shares = score_choices(lm, examples);
  for (const char* name : {"acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}) {
    EXPECT_NEAR(shares[std::string("eval_") + name].get<double>(), golden[name].get<double>(), 1e-12) << name;
  }
  EXPECT_EQ(shares["eval_truncated"], 0);
  EXPECT_EQ(shares["eval_samples"], golden["rows"].size());
}

}  // namespace
}  // namespace deltaw

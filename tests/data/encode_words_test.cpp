// Words to tokens as transformers gives them, labels of tokens, and windows that lose no word.
#include "data/encode_words.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <random>

#include "data/files.h"
#include "support/data.h"

namespace deltaw {
namespace {

using data::encode_words;
using data::EncodedWords;
using data::Window;
using data::windows_of;
using data::WordDataset;
using data::WordTokenizer;
using data::WordTokens;
using test::expect_error;
using test::fixture;
using Numbers = std::vector<int64_t>;
using Strings = std::vector<std::string>;

class EncodeWords : public test::Files {
 protected:
  /// Words of letters, each further one a piece of its own: "abc" is a ##b ##c.
  Tokenizer letters() const {
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char c = 'a'; c <= 'z'; ++c) vocabulary += std::string(1, c) + "\n##" + c + "\n";
    write("vocab.txt", vocabulary);
    return Tokenizer::from_folder(folder_);
  }
};

Json read(const std::string& name) {
  std::ifstream in(fixture("golden/token_cls/" + name));
  return Json::parse(in);
}

Tokenizer fixture_tokenizer(const std::string& name) {
  const auto folder = fixture("text/fixtures/" + name);
  const auto file = folder / "tokenizer.json";
  return std::filesystem::exists(file) ? Tokenizer::from_file(file) : Tokenizer::from_folder(folder);
}

TEST(WordTokens, HaveTheIdsOfTransformersForTextThatIsSplitIntoWords) {
  const Json words = read("words.json");
  ASSERT_EQ(words["tokenizers"].size(), 5u);
  for (const auto& [name, expected] : words["tokenizers"].items()) {
    const Tokenizer tokenizer = fixture_tokenizer(name);
    const WordTokenizer split(tokenizer);
    for (size_t row = 0; row < expected.size(); ++row) {
      const auto list = words["rows"][row].get<Strings>();
      const WordTokens tokens = split.of_words(list);
      const auto count = static_cast<int64_t>(tokens.ids.size());
      EXPECT_EQ(split.window(tokens.ids, 0, count).ids, expected[row][0].get<Numbers>()) << name << ", row " << row;
      Numbers own = expected[row][1].get<Numbers>();
      std::erase(own, -1);  // special tokens
      EXPECT_EQ(tokens.words, own) << name << ", row " << row;
    }
  }
}

TEST(WordTokens, StandInTheTextOfTheirRow) {
  const Tokenizer tokenizer = fixture_tokenizer("roberta");
  const WordTokens tokens = WordTokenizer(tokenizer).of_words({"said", "", "\xC3\xA9t\xC3\xA9", "school"});
  EXPECT_EQ(tokens.text, "said  \xC3\xA9t\xC3\xA9 school");
  EXPECT_EQ(tokens.offsets.front(), (std::pair<int64_t, int64_t>(0, 4)));
  EXPECT_EQ(tokens.offsets.back().second, 16);
  EXPECT_EQ(tokens.words.back(), 3);
  EXPECT_EQ(tokens.word_count, 4);
}

TEST(WordTokens, OfATextAreThoseBetweenBlanks) {
  const Tokenizer tokenizer = fixture_tokenizer("wordpiece");
  const WordTokens tokens = WordTokenizer(tokenizer).of_text("  unaffordable (well)  said");
  EXPECT_EQ(tokens.word_count, 0);
  EXPECT_TRUE(std::is_sorted(tokens.words.begin(), tokens.words.end()));
  EXPECT_EQ(tokens.words.front(), 0);
  EXPECT_EQ(tokens.words.back(), 2);
  EXPECT_EQ(tokens.offsets.back().second, 27);
}

TEST_F(EncodeWords, LabelTheFirstTokenOfAWordOrAll) {
  const Tokenizer tokenizer = letters();
  const LabelSet labels{.names = {"B-X", "I-X", "O", "B-Y"}};
  WordDataset dataset;
  dataset.rows.push_back({.words = {"ab", "c", "de"}, .labels = {0, 2, 3}});
  const EncodedWords first = encode_words(dataset, tokenizer, labels, {.max_length = 16});
  ASSERT_EQ(first.windows.size(), 1u);
  EXPECT_EQ(first.windows[0].token_labels, (Numbers{kNoLabel, 0, kNoLabel, 2, 3, kNoLabel, kNoLabel}));
  EXPECT_EQ(first.windows[0].type_ids, Numbers(7, 0));
  const EncodedWords all = encode_words(dataset, tokenizer, labels, {.max_length = 16, .label_all_tokens = true});
  // I-X follows B-X; there is no I-Y.
  EXPECT_EQ(all.windows[0].token_labels, (Numbers{kNoLabel, 0, 1, 2, 3, 3, kNoLabel}));
}

TEST_F(EncodeWords, CountWordsWithoutTokensAndLeaveOutWindowsWithoutLabels) {
  const Tokenizer tokenizer = letters();
  const LabelSet labels{.names = {"B-X", "O"}};
  WordDataset dataset;
  dataset.rows.push_back({.words = {"\xE2\x80\x8B", "a"}, .labels = {0, 1}});
  dataset.rows.push_back({.words = {}, .labels = {}});
  dataset.rows.push_back({.words = {"\xE2\x80\x8B"}, .labels = {0}});
  const EncodedWords learned = encode_words(dataset, tokenizer, labels, {.max_length = 8, .learned = true});
  EXPECT_EQ(learned.without_tokens, 2);
  EXPECT_EQ(learned.rows.size(), 3u);
  ASSERT_EQ(learned.windows.size(), 1u);
  EXPECT_EQ(learned.windows[0].token_labels, (Numbers{kNoLabel, 1, kNoLabel}));
  EXPECT_EQ(encode_words(dataset, tokenizer, labels, {.max_length = 8}).windows.size(), 3u);
}

TEST_F(EncodeWords, ScoreEveryWordInTheWindowWithTheMostAroundIt) {
  const Tokenizer tokenizer = letters();
  const LabelSet labels{.names = {"B-X", "O"}};
  WordDataset dataset;
  dataset.rows.push_back({.words = {"a", "b", "c", "d", "e", "f", "g", "h"}, .labels = {0, 1, 0, 1, 0, 1, 0, 1}});
  const EncodedWords words = encode_words(dataset, tokenizer, labels, {.max_length = 8, .stride = 3});
  // Tokens 0-5 and 3-7: of the shared ones, 3 has two behind it in the first and 5 has two before it in the second.
  ASSERT_EQ(words.places.size(), 2u);
  EXPECT_EQ(words.places[0].end, 6);
  EXPECT_EQ(words.places[1].begin, 3);
  EXPECT_EQ(words.places[0].own_end, 5);
  EXPECT_EQ(words.places[1].own_begin, 5);
  EXPECT_EQ(words.long_rows, 1);
  EXPECT_EQ(words.windows[0].token_labels, (Numbers{kNoLabel, 0, 1, 0, 1, 0, kNoLabel, kNoLabel}));
  EXPECT_EQ(words.windows[1].token_labels, (Numbers{kNoLabel, kNoLabel, kNoLabel, 1, 0, 1, kNoLabel}));
  EXPECT_EQ(words.windows[1].index, 0);
}

TEST(Windows, HoldEachTokenOnceAndWholeWords) {
  std::mt19937_64 engine(7);
  const auto draw = [&](uint64_t below) { return static_cast<int64_t>(engine() % below); };
  for (int round = 0; round < 3000; ++round) {
    WordTokens row;
    const int64_t room = 1 + draw(12), stride = draw(static_cast<uint64_t>(room));
    const uint64_t longest = round % 5 == 0 ? 30 : 5;
    for (int64_t word = 0; word < draw(30); ++word)
      row.words.insert(row.words.end(), static_cast<size_t>(1 + draw(longest)), word);
    row.ids.assign(row.words.size(), 5);
    const auto tokens = static_cast<int64_t>(row.ids.size());
    const std::vector<Window> windows = windows_of(row, room, stride);
    ASSERT_FALSE(windows.empty());
    int64_t owned = 0;
    std::map<int64_t, int64_t> sizes;
    for (const int64_t word : row.words) ++sizes[word];
    for (const Window& window : windows) {
      ASSERT_LE(window.end - window.begin, room);
      ASSERT_EQ(window.own_begin, owned);  // one after the other, without a gap
      ASSERT_GE(window.own_begin, window.begin);
      ASSERT_LE(window.own_end, window.end);
      owned = window.own_end;
      const auto at = [&](int64_t token) { return row.words[static_cast<size_t>(token)]; };
      const bool cut = window.own_end < tokens && window.own_end > 0 && at(window.own_end) == at(window.own_end - 1);
      if (cut) {
        ASSERT_GT(sizes[at(window.own_end)], room) << "a word that fits is cut";
      }
    }
    ASSERT_EQ(owned, tokens);
  }
}

TEST_F(EncodeWords, RefuseLengthsThatLeaveNoRoom) {
  const Tokenizer tokenizer = letters();
  WordDataset dataset;
  dataset.rows.push_back({.words = {"a"}, .labels = {0}});
  const LabelSet labels{.names = {"B-X", "O"}};
  expect_error([&] { encode_words(dataset, tokenizer, labels, {.max_length = 2}); }, "config.max-length", {"3"});
  expect_error([&] { encode_words(dataset, tokenizer, labels, {.max_length = 10, .stride = 8}); }, "config.stride",
               {"stride is 8", "8 tokens"});
  EXPECT_EQ(encode_words(dataset, tokenizer, labels, {.max_length = 3}).windows.size(), 1u);
}

}  // namespace
}  // namespace deltaw

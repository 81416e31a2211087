// Which word a token is of, the mask token, and models of whole words (oracle/make_words.py).
#include <gtest/gtest.h>

#include "deltaw/error.h"
#include "golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;
using Ids = std::vector<int64_t>;

const nlohmann::json& golden() {
  static const nlohmann::json words = test::read_fixture("words.json");
  return words;
}

std::string numbers(const Encoding& encoding) {
  std::string text;
  for (const int64_t word : encoding.words) text += (text.empty() ? "" : ",") + std::to_string(word);
  return text;
}

class WordLevel : public testing::Test {
 protected:
  Tokenizer read(const nlohmann::json& file) const {
    return Tokenizer::from_file(folder.write("tokenizer.json", file.dump()));
  }
  /// The golden tokenizer of whole words with another model.
  Tokenizer with_model(const nlohmann::json& model) const {
    nlohmann::json file = golden().at("wordlevel").at("tokenizer");
    file["model"] = model;
    file["added_tokens"] = nlohmann::json::array();
    file["post_processor"] = nullptr;
    return read(file);
  }
  test::TemporaryFolder folder;
};

TEST(Words, AreThePiecesThatTheReferenceCuts) {
  for (const auto& [name, sums] : golden().at("words").items()) {
    if (name == "wordlevel") continue;
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/" + name));
    test::expect_sums(golden().at("words"), name.c_str(),
                      [&](size_t i) { return numbers(tokenizer.encode(test::golden_lines()[i])); });
  }
}

TEST(Words, OfASecondTextAreCountedFromZeroAgain) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/wordpiece"));
  const std::vector<std::string>& lines = test::golden_lines();
  test::expect_sums(golden(), "pairs", [&](size_t i) { return numbers(tokenizer.encode(lines[i], lines[i + 1])); });
  for (const size_t i : {size_t{20}, size_t{21}, size_t{22}}) {
    const Encoding cut = tokenizer.encode(lines[i], lines[i + 1], {.max_length = 12});
    EXPECT_EQ(cut.words.size(), cut.ids.size());
    EXPECT_EQ(cut.words.back(), -1);
  }
}

TEST_F(WordLevel, AgreesWithTheReferenceOnFiveThousandLines) {
  const nlohmann::json& expected = golden().at("wordlevel");
  const Tokenizer tokenizer = read(expected.at("tokenizer"));
  test::expect_encode_pair_decode(expected, tokenizer);
  test::expect_sums(golden().at("words"), "wordlevel",
                    [&](size_t i) { return numbers(tokenizer.encode(test::golden_lines()[i])); });
  EXPECT_EQ(tokenizer.mask_id(), 4);
}

TEST_F(WordLevel, ReadsWhatARegularExpressionCutsOutOfASmiles) {
  const nlohmann::json& expected = golden().at("smiles");
  const Tokenizer tokenizer = read(expected.at("tokenizer"));
  for (const nlohmann::json& row : expected.at("rows")) {
    SCOPED_TRACE(row.at("text").get<std::string>());
    const Encoding encoding = tokenizer.encode(row.at("text").get<std::string>());
    EXPECT_EQ(encoding.ids, row.at("ids").get<Ids>());
    EXPECT_EQ(encoding.tokens, row.at("tokens").get<std::vector<std::string>>());
    Ids offsets;
    for (const auto& [begin, end] : encoding.offsets) offsets.insert(offsets.end(), {begin, end});
    EXPECT_EQ(offsets, row.at("offsets").get<Ids>());
    EXPECT_EQ(tokenizer.decode(encoding.ids), row.at("decoded").get<std::string>());
  }
}

TEST_F(WordLevel, NeedsAnUnknownTokenForUnknownWordsOnly) {
  const Tokenizer tokenizer = with_model({{"type", "WordLevel"}, {"vocab", {{"a", 0}, {"b", 1}}}, {"unk_token", "?"}});
  EXPECT_EQ(tokenizer.encode("b A").ids, (Ids{1, 0}));
  try {
    tokenizer.encode("a strange word");
    ADD_FAILURE() << "a word without an id";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "data.unknown-word");
    EXPECT_NE(std::string(error.what()).find("'strange'"), std::string::npos) << error.what();
  }
  const Tokenizer with_one = with_model({{"type", "WordLevel"}, {"vocab", {{"a", 0}, {"?", 7}}}, {"unk_token", "?"}});
  EXPECT_EQ(with_one.encode("a strange word").ids, (Ids{0, 7, 7}));
}

TEST_F(WordLevel, IsWhatAnEarlyFileWithoutATypeHolds) {
  const Tokenizer tokenizer = with_model({{"vocab", {{"a", 0}, {"b", 1}}}, {"unk_token", "b"}});
  EXPECT_EQ(tokenizer.encode("a c").ids, (Ids{0, 1}));
  EXPECT_THROW(with_model({{"type", "WordLevel"}, {"vocab", {{"a", 0}}}}), Error) << "no unk_token";
}

TEST(MaskToken, IsTheOneThatTheConfigurationNamesOrAUsualOne) {
  EXPECT_EQ(Tokenizer::from_folder(fixture("text/fixtures/byte_level")).mask_id(), std::nullopt);
  const Tokenizer roberta = Tokenizer::from_folder(fixture("text/fixtures/roberta"));
  EXPECT_EQ(roberta.mask_id(), roberta.token_to_id("<mask>"));
  const test::TemporaryFolder folder;
  folder.copy(fixture("text/fixtures/wordpiece/tokenizer.json"));
  const Tokenizer wordpiece = Tokenizer::from_folder(folder.path());
  EXPECT_EQ(wordpiece.mask_id(), wordpiece.token_to_id("[MASK]"));
  folder.write("tokenizer_config.json", R"({"mask_token": "[UNK]"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).mask_id(), wordpiece.token_to_id("[UNK]"));
}

}  // namespace
}  // namespace deltaw

#include <gtest/gtest.h>

#include "deltaw/tokenizer.h"
#include "golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;

bool is_utf8(const std::string& text) {
  try {
    return !nlohmann::json(text).dump().empty();
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

/// The parts that a stream hands out for `ids`, joined; each must be whole characters.
std::string streamed(const Tokenizer& tokenizer, const std::vector<int64_t>& ids, bool skip) {
  TextStream stream(tokenizer, skip);
  std::string text;
  for (const int64_t id : ids) {
    const std::string part = stream.put(id);
    EXPECT_TRUE(is_utf8(part));
    text += part;
  }
  return text + stream.end();
}

class Stream : public ::testing::TestWithParam<const char*> {};

TEST_P(Stream, GivesTheTextThatDecodingGives) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture(std::string("text/fixtures/") + GetParam()));
  for (size_t i = 0; i < 1500; ++i) {
    std::vector<int64_t> ids = tokenizer.encode(test::golden_lines()[i]).ids;
    for (const bool skip : {true, false}) ASSERT_EQ(streamed(tokenizer, ids, skip), tokenizer.decode(ids, skip)) << i;
  }
}

TEST_P(Stream, GivesTheTextThatDecodingGivesForAnyIds) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture(std::string("text/fixtures/") + GetParam()));
  uint32_t state = 1;
  for (int round = 0; round < 1500; ++round) {
    std::vector<int64_t> ids;
    for (int i = 0; i < 24; ++i) {
      state = state * 1664525u + 1013904223u;
      const auto bound = static_cast<uint32_t>(tokenizer.vocab_size());
      ids.push_back((state >> 8) % (round % 2 == 0 ? bound : 300));  // the low ids are bytes
    }
    for (const bool skip : {true, false}) ASSERT_EQ(streamed(tokenizer, ids, skip), tokenizer.decode(ids, skip));
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, Stream,
                         ::testing::Values("wordpiece", "byte_level", "suffixed", "roberta", "llama3", "llama2",
                                           "gemma", "unigram"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TextStream, HandsOutEachCharacterWhenItIsWhole) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/byte_level"));
  const std::vector<int64_t> ids = tokenizer.encode("a\xF0\x9F\xA6\x84z", {.add_special_tokens = false}).ids;
  ASSERT_GE(ids.size(), 4u);
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.put(ids[0]), "a");
  EXPECT_EQ(stream.put(ids[1]), "");
  std::string unicorn;
  for (size_t i = 2; i + 1 < ids.size(); ++i) unicorn += stream.put(ids[i]);
  EXPECT_EQ(unicorn, "\xF0\x9F\xA6\x84");
  EXPECT_EQ(stream.put(ids.back()), "z");
  EXPECT_EQ(stream.put(ids[1]), "");
  EXPECT_EQ(stream.end(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.end(), "");
}

TEST(TextStream, TakesTimeInProportionToItsLength) {
  for (const char* name : {"byte_level", "llama2", "unigram"}) {
    const Tokenizer tokenizer = Tokenizer::from_folder(fixture(std::string("text/fixtures/") + name));
    for (int64_t id = 0; id < tokenizer.vocab_size(); id += 97) {
      TextStream stream(tokenizer);
      for (int i = 0; i < 3000; ++i) stream.put(id);  // quadratic time would be minutes
      EXPECT_EQ(stream.put(-1), "");
    }
  }
}

}  // namespace
}  // namespace deltaw

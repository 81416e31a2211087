#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "deltaw/error.h"
#include "deltaw/tokenizer.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;
using test::TemporaryFolder;

TEST(NewTokens, ComeBehindTheVocabulary) {
  Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/llama2"));
  const int64_t size = tokenizer.vocab_size();
  EXPECT_EQ(tokenizer.add_tokens({"<|user|>", "<|bot|>", "</s>", "<|user|>"}, true), 2);
  EXPECT_EQ(tokenizer.vocab_size(), size + 2);
  EXPECT_EQ(tokenizer.token_to_id("<|user|>"), size);
  EXPECT_EQ(tokenizer.token_to_id("</s>"), 2);
  EXPECT_TRUE(tokenizer.is_special(size + 1));
  EXPECT_FALSE(tokenizer.is_special(size - 1));
  EXPECT_FALSE(tokenizer.is_special(-1));

  const Encoding encoding = tokenizer.encode("<|user|>hi<|bot|>", {.add_special_tokens = false});
  EXPECT_EQ(encoding.ids.front(), size);
  EXPECT_EQ(encoding.ids.back(), size + 1);
  EXPECT_EQ(tokenizer.decode(encoding.ids).find("user"), std::string::npos);

  EXPECT_EQ(tokenizer.add_tokens({"plainword"}, false), 1);
  EXPECT_FALSE(tokenizer.is_special(size + 2));
  EXPECT_THROW(tokenizer.add_tokens({""}, false), Error);
  EXPECT_THROW(tokenizer.add_tokens({"\xFF"}, false), Error);
}

TEST(NewTokens, AreThereAfterSavingAndReading) {
  for (const char* name : {"llama2", "llama3", "unigram", "roberta", "byte_level"}) {
    SCOPED_TRACE(name);
    Tokenizer tokenizer = Tokenizer::from_folder(fixture(std::string("text/fixtures/") + name));
    tokenizer.add_tokens({"<|user|>"}, true);
    tokenizer.add_tokens({"plainword"}, false);
    const TemporaryFolder folder;
    tokenizer.save(folder.path() / "saved");
    const Tokenizer again = Tokenizer::from_folder(folder.path() / "saved");
    EXPECT_EQ(again.vocab_size(), tokenizer.vocab_size());
    EXPECT_EQ(again.pad_id(), tokenizer.pad_id());
    EXPECT_EQ(again.eos_id(), tokenizer.eos_id());
    EXPECT_EQ(again.prepends_bos(), tokenizer.prepends_bos());
    const std::string text = "<|user|>the plainword of <|user|>";
    EXPECT_EQ(again.encode(text).ids, tokenizer.encode(text).ids);
    EXPECT_EQ(again.encode(text).offsets, tokenizer.encode(text).offsets);
    EXPECT_TRUE(again.is_special(*again.token_to_id("<|user|>")));
    EXPECT_FALSE(again.is_special(*again.token_to_id("plainword")));
  }
}

TEST(NewTokens, AreThereAfterSavingAFileOfAnyName) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(fixture("text/fixtures/llama2/tokenizer.json"), folder.path() / "other.json");
  Tokenizer tokenizer = Tokenizer::from_file(folder.path() / "other.json");
  tokenizer.add_tokens({"<|user|>"}, true);
  tokenizer.save(folder.path() / "saved");
  EXPECT_EQ(Tokenizer::from_folder(folder.path() / "saved").token_to_id("<|user|>"), tokenizer.vocab_size() - 1);
}

}  // namespace
}  // namespace deltaw

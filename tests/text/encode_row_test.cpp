#include <gtest/gtest.h>

#include "deltaw/tokenizer.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;
using Ids = std::vector<int64_t>;

TEST(EncodeRow, HasOneBeginTokenWhetherTheTextSpellsItOrNot) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/llama2"));
  const Encoding plain = encode_row(tokenizer, "the end");
  ASSERT_EQ(plain.ids.front(), 1);
  EXPECT_EQ(plain.ids, tokenizer.encode("the end").ids);

  const Encoding spelled = encode_row(tokenizer, "<s>the end");
  EXPECT_EQ(spelled.ids, plain.ids);
  EXPECT_EQ(spelled.tokens, plain.tokens);
  EXPECT_EQ(spelled.offsets.front(), (std::pair<int64_t, int64_t>(0, 3)));
  EXPECT_EQ(spelled.type_ids.size(), spelled.ids.size());
  EXPECT_EQ(encode_row(tokenizer, "<s>").ids, Ids{1});
  EXPECT_EQ(encode_row(tokenizer, "").ids, Ids{1});
  // What the text itself says twice stays, as does one further on.
  EXPECT_EQ(encode_row(tokenizer, "<s><s>the end").ids.size(), plain.ids.size() + 1);
  EXPECT_EQ(encode_row(tokenizer, "the<s>end").ids, tokenizer.encode("the<s>end").ids);
  // A template's text has what it has.
  EXPECT_EQ(encode_row(tokenizer, "<s>the end", false).ids, plain.ids);
  EXPECT_EQ(encode_row(tokenizer, "the end", false).ids, Ids(plain.ids.begin() + 1, plain.ids.end()));
}

TEST(EncodeRow, HasOneEndTokenWhereTheTokenizerAddsOne) {
  const test::TemporaryFolder folder;
  folder.copy(fixture("text/fixtures/gemma_model/tokenizer.model"));
  folder.copy(fixture("text/fixtures/gemma_model/tokenizer_config.json"));  // adds <bos> and <eos>
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  const Ids plain = encode_row(tokenizer, "the end").ids;
  ASSERT_EQ(plain.back(), tokenizer.eos_id());
  EXPECT_EQ(encode_row(tokenizer, "<bos>the end<eos>").ids, plain);
  EXPECT_EQ(encode_row(tokenizer, "the end<eos>").ids, plain);
  EXPECT_EQ(encode_row(tokenizer, "<bos><eos>").ids, (Ids{*tokenizer.bos_id(), *tokenizer.eos_id()}));
}

}  // namespace
}  // namespace deltaw

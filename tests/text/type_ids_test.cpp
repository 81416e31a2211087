// Whether a tokenizer hands segment ids to the model, as in transformers.
#include <gtest/gtest.h>

#include "deltaw/tokenizer.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::TemporaryFolder;

class TypeIds : public testing::Test {
 protected:
  TypeIds() { folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n"); }
  bool given(const std::string& tokenizer_config, const std::string& model_config = "") const {
    folder.write("tokenizer_config.json", tokenizer_config);
    if (!model_config.empty()) model.write("config.json", model_config);
    return Tokenizer::from_folder(folder.path(), model.path()).gives_type_ids();
  }
  TemporaryFolder folder, model;
};

TEST_F(TypeIds, FollowModelInputNames) {
  EXPECT_FALSE(given(R"({"tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids", "attention_mask"]})"));
  EXPECT_TRUE(given(R"({"tokenizer_class": "PreTrainedTokenizerFast",
                        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]})"));
  EXPECT_FALSE(given(R"({"model_input_names": []})", R"({"model_type": "bert"})"));
}

TEST_F(TypeIds, ElseTheClassOfTheTokenizer) {
  for (const char* name : {"BertTokenizer", "BertTokenizerFast", "ElectraTokenizer", "DebertaV2TokenizerFast"}) {
    EXPECT_TRUE(given(R"({"tokenizer_class": ")" + std::string(name) + "\"}", R"({"model_type": "roberta"})")) << name;
  }
  for (const char* name : {"PreTrainedTokenizerFast", "TokenizersBackend", "RobertaTokenizer", "DistilBertTokenizer",
                           "Fast", "XBertTokenizer"}) {
    EXPECT_FALSE(given(R"({"tokenizer_class": ")" + std::string(name) + "\"}", R"({"model_type": "bert"})")) << name;
  }
}

TEST_F(TypeIds, ElseWhatTheModelSays) {
  EXPECT_TRUE(given("{}", R"({"model_type": "roberta", "tokenizer_class": "BertTokenizer"})"));
  EXPECT_FALSE(given("{}", R"({"model_type": "bert", "tokenizer_class": "RobertaTokenizer"})"));
  EXPECT_TRUE(given("{}", R"({"model_type": "bert"})"));
  EXPECT_FALSE(given("{}", R"({"model_type": "roberta"})"));
}

TEST_F(TypeIds, AreGivenWhereNothingSaysOtherwise) {
  EXPECT_TRUE(given("{}"));
  EXPECT_TRUE(given("{}", "{}"));
}

}  // namespace
}  // namespace deltaw

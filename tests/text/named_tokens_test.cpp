#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/chat.h"
#include "deltaw/error.h"
#include "deltaw/tokenizer.h"
#include "golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;
using test::TemporaryFolder;

const char* const kLlama = R"("tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "unk_token": "<unk>")";

void write_base(const TemporaryFolder& folder, const std::string& base, const std::vector<std::string>& files) {
  for (const std::string& file : files) folder.copy(fixture("text/fixtures/" + base + "/" + file));
}

TEST(NamedTokens, HaveTheIdsThatTransformersGivesThemWhicheverFileNamesThem) {
  const Json golden = read_json(fixture("text/fixtures/named_tokens.json"));  // the order of keys counts
  ASSERT_GE(golden.at("cases").size(), 50u);
  for (const Json& example : golden.at("cases")) {
    SCOPED_TRACE(example.at("base").get<std::string>() + ", " + example.at("name").get<std::string>());
    const TemporaryFolder folder;
    write_base(folder, example.at("base"), example.at("files"));
    for (const auto& [file, value] : example.at("form").items()) folder.write(file, value.dump());
    Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
    for (size_t i = 0; i < golden.at("texts").size(); ++i) {
      const auto text = golden["texts"][i].get<std::string>();
      EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false}).ids,
                example.at("ids")[i].get<std::vector<int64_t>>())
          << text;
    }
    EXPECT_EQ(tokenizer.vocab_size(), example.at("size").get<int64_t>());
    EXPECT_EQ(tokenizer.eos_id(), example.at("eos").get<int64_t>());
    if (!example.at("pad").is_null()) {
      EXPECT_EQ(tokenizer.pad_id(), example.at("pad").get<int64_t>());
    }

    // They keep their ids where more are added, and after saving.
    tokenizer.add_tokens({"<|more|>"}, true);
    tokenizer.save(folder.path() / "saved");
    const Tokenizer again = Tokenizer::from_folder(folder.path() / "saved");
    EXPECT_EQ(again.vocab_size(), tokenizer.vocab_size());
    for (const Json& text : golden["texts"]) {
      EXPECT_EQ(again.encode(text.get<std::string>()).ids, tokenizer.encode(text.get<std::string>()).ids);
    }
    for (const std::filesystem::path& file : tokenizer.files()) {
      EXPECT_EQ(file.parent_path(), folder.path());
    }
    EXPECT_EQ(tokenizer.files().size(), example.at("files").size() + example.at("form").size());
  }
}

TEST(NamedTokens, MayBeDescribedByAPlainObject) {
  const TemporaryFolder folder;
  write_base(folder, "llama2", {"tokenizer.json"});
  folder.write("tokenizer_config.json", "{" + std::string(kLlama) + R"(, "eos_token": {"content": "<|open|>"},
      "additional_special_tokens": [{"content": "<|close|>", "lstrip": true}, ""]})");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  EXPECT_EQ(tokenizer.eos_id(), 1400);
  EXPECT_EQ(tokenizer.token_to_id("<|close|>"), 1401);
  EXPECT_TRUE(tokenizer.is_special(1401));
  EXPECT_TRUE(tokenizer.is_added(1401));
  EXPECT_FALSE(tokenizer.is_added(1399));
  EXPECT_EQ(tokenizer.encode("the  <|close|>").ids.back(), 1401);
  EXPECT_EQ(tokenizer.decode({1400, 1401}), "");
}

/// What the error says of a folder with these files.
ErrorParts refused(const std::string& base, const std::vector<std::string>& files, const std::string& name,
                   const std::string& text) {
  const TemporaryFolder folder;
  write_base(folder, base, files);
  folder.write(name, text);
  try {
    Tokenizer::from_folder(folder.path());
  } catch (const Error& error) {
    return error.parts();
  }
  return {.id = "none"};
}

TEST(NamedTokens, WithoutAnIdAreRefusedByFileAndName) {
  // The ids that the files say cannot be: transformers gives them others, and the model was trained with one of the
  // two.
  for (const auto& [base, files] : {std::pair<std::string, std::vector<std::string>>{"llama2", {"tokenizer.json"}},
                                    {"gemma_model", {"tokenizer.model"}}}) {
    SCOPED_TRACE(base);
    ErrorParts parts = refused(base, files, "added_tokens.json", R"({"<|open|>": 5000})");
    EXPECT_EQ(parts.id, "format.vocabulary");
    EXPECT_NE(parts.what.find("\"<|open|>\" has the id 5000"), std::string::npos) << parts.what;
    EXPECT_NE(parts.where.find("added_tokens.json"), std::string::npos) << parts.where;

    parts =
        refused(base, files, "tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<|open|>"}}})");
    EXPECT_EQ(parts.id, "format.vocabulary");
    EXPECT_NE(parts.what.find("<|open|>"), std::string::npos) << parts.what;
    EXPECT_NE(parts.where.find("tokenizer_config.json"), std::string::npos) << parts.where;
    EXPECT_NE(parts.where.find("added_tokens_decoder"), std::string::npos) << parts.where;

    EXPECT_EQ(refused(base, files, "added_tokens.json", R"({"<|open|>": null})").id, "format.tokenizer");
    EXPECT_EQ(refused(base, files, "added_tokens.json", R"({"<|open|>": -1})").id, "format.tokenizer");
    EXPECT_EQ(refused(base, files, "added_tokens.json", "[]").id, "format.tokenizer");
    EXPECT_EQ(refused(base, files, "tokenizer_config.json", R"({"eos_token": 2})").id, "format.tokenizer");
    EXPECT_EQ(refused(base, files, "tokenizer_config.json", R"({"additional_special_tokens": [2]})").id,
              "format.tokenizer");
    EXPECT_EQ(refused(base, files, "tokenizer_config.json", R"({"extra_special_tokens": {"a": 2}})").id,
              "format.tokenizer");
    parts = refused(base, files, "special_tokens_map.json", R"({"eos_token": {"context": "<|open|>"}})");
    EXPECT_EQ(parts.id, "format.tokenizer");
    EXPECT_NE(parts.where.find("special_tokens_map.json"), std::string::npos) << parts.where;
  }
}

TEST(NamedTokens, OfAVocabularyWithGapsWouldShareTheIdOfAPiece) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json",
               R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 3}, "merges": []}, "added_tokens": []})");
  folder.write("tokenizer_config.json", R"({"eos_token": "<|open|>"})");
  try {
    Tokenizer::from_folder(folder.path());
    FAIL() << "it has no id";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "format.vocabulary");
    EXPECT_NE(error.parts().what.find("\"<|open|>\" has no id"), std::string::npos) << error.parts().what;
    EXPECT_NE(error.parts().what.find("\"c\""), std::string::npos) << error.parts().what;
    EXPECT_NE(error.parts().where.find("tokenizer_config.json"), std::string::npos) << error.parts().where;
    EXPECT_NE(error.parts().where.find("eos_token"), std::string::npos) << error.parts().where;
  }
}

TEST(NamedTokens, AreTheSameInChatTemplates) {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"eos_token": "</s>", "pad_token": {"content": "<pad>"}})");
  folder.write("special_tokens_map.json", R"({"eos_token": {"content": "<|open|>"}})");
  folder.write("chat_template.jinja", "{{ eos_token }} {{ pad_token }}");
  EXPECT_EQ(ChatTemplate::from_folder(folder.path())->render(Json::array(), false).text, "<|open|> <pad>");
}

}  // namespace
}  // namespace deltaw

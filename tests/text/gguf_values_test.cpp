// Tokenizers of folders as the values of GGUF files, read again.
#include "text/convert/gguf_values.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "golden.h"
#include "io/gguf_writer.h"
#include "support/data.h"
#include "support/temporary.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::text {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::fixture;
using test::put;
using test::TemporaryFolder;

using Ids = std::vector<int64_t>;

Json value_of(const GgufTokenizer& tokenizer, const std::string& key) {
  for (const io::GgufValue& value : tokenizer.values) {
    if (value.key == key || value.key == "tokenizer.ggml." + key) return value.value;
  }
  return {};
}

int64_t rows_of(const fs::path& folder) {
  return Tokenizer::from_folder(folder).vocab_size();
}

fs::path written(const TemporaryFolder& folder, const GgufTokenizer& tokenizer) {
  io::write_gguf(folder / "m.gguf", tokenizer.values, {});
  return folder / "m.gguf";
}

TEST(GgufValues, AreReadAgainAsTheSameTokenizer) {
  struct Case {
    const char *folder, *kind, *pre;
  };
  for (const auto& [name, kind, pre] : {Case{"llama3", "gpt2", "llama-bpe"}, Case{"llama2", "llama", "default"},
                                        Case{"gemma", "llama", "default"}, Case{"gemma_model", "llama", "default"}}) {
    const fs::path folder = fixture(std::string("text/fixtures/") + name);
    const Tokenizer original = Tokenizer::from_folder(folder);
    const GgufTokenizer tokenizer = gguf_tokenizer({.folder = folder, .rows = original.vocab_size() + 3});
    EXPECT_EQ(value_of(tokenizer, "model"), kind) << name;
    EXPECT_EQ(value_of(tokenizer, "pre"), pre) << name;
    const Json tokens = value_of(tokenizer, "tokens"), types = value_of(tokenizer, "token_type");
    ASSERT_EQ(static_cast<int64_t>(tokens.size()), original.vocab_size() + 3) << name;
    EXPECT_EQ(tokens.back(), "[PAD" + std::to_string(tokens.size() - 1) + "]") << name;
    EXPECT_EQ(types.back(), 5) << name;
    const TemporaryFolder place;
    const fs::path file = written(place, tokenizer);
    check_gguf_tokenizer(file, tokenizer);
    const Tokenizer again = Tokenizer::from_file(file);
    EXPECT_EQ(again.vocab_size(), original.vocab_size()) << name;
    EXPECT_EQ(again.bos_id(), original.bos_id()) << name;
    EXPECT_EQ(again.eos_id(), original.eos_id()) << name;
    EXPECT_EQ(again.prepends_bos(), original.prepends_bos()) << name;
    for (const std::string& line : test::golden_lines()) {
      if (line.find('<') != std::string::npos) continue;  // llama.cpp puts a blank behind special tokens
      ASSERT_EQ(again.encode(line).ids, original.encode(line).ids) << name << ": " << line;
    }
  }
}

TEST(GgufValues, OfReleasesHaveTheNameOfTheirTokens) {
  const TemporaryFolder folder;
  for (const auto& [name, config, pre] :
       {std::tuple{"gpt2", "{}", "gpt-2"}, std::tuple{"qwen3", R"({"tokenizer_class": "Qwen2Tokenizer"})", "qwen2"}}) {
    const auto source = test::shared_data(std::string("tokenizers/") + name);
    if (!source) GTEST_SKIP() << "SKIPPED: shared/data/tokenizers is missing";
    const fs::path own = folder / name;
    fs::copy(*source, own);
    put(own / "tokenizer_config.json", config);
    const Tokenizer tokenizer = Tokenizer::from_folder(own);
    // How words are cut is left out: the tokens alone tell.
    EXPECT_EQ(gguf_words_name(tokenizer, {{"model", TokenizerJson::object()}, {"pre_tokenizer", "none"}}, name), pre);
    EXPECT_EQ(value_of(gguf_tokenizer({.folder = own, .rows = rows_of(own)}), "pre"), pre);
  }
}

TEST(GgufValues, TakeTheNameOfHowWordsAreCut) {
  const fs::path folder = fixture("text/fixtures/llama3");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  TokenizerJson json = read_tokenizer_json(folder / "tokenizer.json");
  EXPECT_EQ(gguf_words_name(tokenizer, json, "x"), "llama-bpe");
  json["model"]["ignore_merges"] = false;
  EXPECT_EQ(gguf_words_name(tokenizer, json, "x"), "dbrx");
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "ByteLevel"}}}}};
  json["pre_tokenizer"]["pretokenizers"][0].update({{"add_prefix_space", false}, {"use_regex", true}});
  EXPECT_EQ(gguf_words_name(tokenizer, json, "x"), "gpt-2");
  json["normalizer"] = {{"type", "Lowercase"}};
  const Error error = error_of([&] { gguf_words_name(tokenizer, json, "x"); });
  EXPECT_EQ(error.id(), "config.unsupported");
  EXPECT_NE(error.parts().fix.find("--pre_tokenizer NAME"), std::string::npos);
}

TEST(GgufValues, AreRefusedWhereTheFileWouldCutAnotherWay) {
  const fs::path folder = fixture("text/fixtures/llama3");
  const TemporaryFolder place;
  const GgufTokenizer tokenizer =
      gguf_tokenizer({.folder = folder, .rows = rows_of(folder), .pre_tokenizer = "smollm"});
  const fs::path file = written(place, tokenizer);
  const Error error = error_of([&] { check_gguf_tokenizer(file, tokenizer); });
  EXPECT_EQ(error.id(), "config.unsupported");
  EXPECT_NE(error.parts().where.find("smollm"), std::string::npos);
  EXPECT_NE(error.parts().fix.find("--pre_tokenizer"), std::string::npos);
  // A name that is not known here is the user's word for it.
  const GgufTokenizer unknown =
      gguf_tokenizer({.folder = folder, .rows = rows_of(folder), .pre_tokenizer = "superbpe"});
  check_gguf_tokenizer(written(place, unknown), unknown);
}

TEST(GgufValues, AreRefusedForOtherKinds) {
  for (const char* name : {"wordpiece", "unigram", "t5", "suffixed"}) {
    const fs::path folder = fixture(std::string("text/fixtures/") + name);
    const Error error = error_of([&] { gguf_tokenizer({.folder = folder, .rows = rows_of(folder)}); });
    EXPECT_EQ(error.id(), "config.unsupported") << name << ": " << error.what();
    EXPECT_NE(error.parts().fix.find("--to hf"), std::string::npos) << name;
  }
}

TEST(GgufValues, AreRefusedForTokensWithoutARow) {
  const fs::path folder = fixture("text/fixtures/llama3");
  const int64_t rows = rows_of(folder) - 1;
  const Error error = error_of([&] { gguf_tokenizer({.folder = folder, .rows = rows}); });
  EXPECT_EQ(error.id(), "format.vocabulary");
  EXPECT_NE(error.parts().what.find(std::to_string(rows) + " rows"), std::string::npos) << error.what();
}

class GgufValuesOf : public testing::Test {
 protected:
  GgufTokenizer with(const std::string& config, const Json& model = Json::object()) {
    fs::copy_file(fixture("text/fixtures/llama3/tokenizer.json"), folder_ / "tokenizer.json",
                  fs::copy_options::overwrite_existing);
    put(folder_ / "tokenizer_config.json", config);
    return gguf_tokenizer({.folder = folder_.path(), .config = model, .rows = rows_of(folder_.path())});
  }

  TemporaryFolder folder_;
};

TEST_F(GgufValuesOf, NameSpecialTokensByTheFilesThenByTheModel) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/llama3"));
  const std::string first = *tokenizer.id_to_token(5);
  const GgufTokenizer found =
      with(Json{{"unk_token", first}}.dump(),
           {{"unk_token_id", 7}, {"eos_token_id", {3, 4}}, {"bos_token_id", 9}, {"pad_token_id", -1}});
  EXPECT_EQ(value_of(found, "unknown_token_id"), 5);
  EXPECT_EQ(value_of(found, "eos_token_id"), 3);
  EXPECT_EQ(value_of(found, "bos_token_id"), *tokenizer.bos_id());  // which it puts before a text
  EXPECT_TRUE(value_of(found, "padding_token_id").is_null());
}

TEST_F(GgufValuesOf, HoldEveryChatTemplate) {
  const GgufTokenizer found =
      with(R"({"chat_template": [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]})");
  EXPECT_EQ(value_of(found, "tokenizer.chat_template"), "A");
  EXPECT_EQ(value_of(found, "tokenizer.chat_template.tool_use"), "B");
  EXPECT_EQ(value_of(found, "tokenizer.chat_templates"), Json::array({"tool_use"}));
  EXPECT_EQ(value_of(with(R"({"chat_template": "C"})"), "tokenizer.chat_template"), "C");
  for (const char* none : {"7", "[1, {\"name\": 2, \"template\": \"x\"}, {\"name\": \"y\"}]", "null"}) {
    EXPECT_TRUE(value_of(with(std::string(R"({"chat_template": )") + none + "}"), "tokenizer.chat_template").is_null());
  }
  put(folder_ / "chat_template.jinja", "D");
  EXPECT_EQ(value_of(with(R"({"chat_template": "C"})"), "tokenizer.chat_template"), "D");
}

TEST_F(GgufValuesOf, MarkTokensByWhatTheyAreFor) {
  TokenizerJson json = read_tokenizer_json(fixture("text/fixtures/llama3/tokenizer.json"));
  const int64_t next = rows_of(fixture("text/fixtures/llama3"));
  for (const auto& [content, special] : {std::pair{"<|looks|>", false}, {"[plain]", false}, {"[special]", true}}) {
    json["added_tokens"].push_back({{"id", next + static_cast<int64_t>(json["added_tokens"].size())},
                                    {"content", content},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", special}});
  }
  int64_t id = next;
  for (size_t i = json["added_tokens"].size() - 3; i < json["added_tokens"].size(); ++i) {
    json["added_tokens"][i]["id"] = id++;
  }
  put(folder_ / "tokenizer.json", json.dump());
  const GgufTokenizer found = gguf_tokenizer({.folder = folder_.path(), .rows = id});
  const Json types = value_of(found, "token_type");
  EXPECT_EQ(types[next], 3);      // a control token by its look
  EXPECT_EQ(types[next + 1], 4);  // the user's own
  EXPECT_EQ(types[next + 2], 3);
}

TEST(GgufValues, TakeScoresFromTheModelWhereItIsTheSame) {
  const TemporaryFolder folder;
  const fs::path source = fixture("text/fixtures/gemma_model");
  const Tokenizer original = Tokenizer::from_folder(source);
  const GgufTokenizer own = gguf_tokenizer({.folder = source, .rows = original.vocab_size()});
  original.save(folder.path());  // a tokenizer.json, which has no scores
  fs::remove(folder / "tokenizer.model");
  const GgufTokenizer alone = gguf_tokenizer({.folder = folder.path(), .rows = original.vocab_size()});
  const GgufTokenizer beside =
      gguf_tokenizer({.folder = folder.path(), .pieces = source, .rows = original.vocab_size()});
  EXPECT_EQ(value_of(beside, "scores"), value_of(own, "scores"));
  EXPECT_NE(value_of(alone, "scores"), value_of(own, "scores"));
  EXPECT_EQ(value_of(alone, "tokens"), value_of(own, "tokens"));
  // The order of the merges is that of the scores.
  const auto ours = value_of(alone, "scores").get<std::vector<float>>(),
             theirs = value_of(own, "scores").get<std::vector<float>>();
  const auto types = value_of(own, "token_type").get<std::vector<int>>();
  const auto tokens = value_of(own, "tokens").get<std::vector<std::string>>();
  std::vector<size_t> order;
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] == 1 && tokens[i].size() > 4) order.push_back(i);
  }
  ASSERT_GT(order.size(), 20u);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return theirs[a] > theirs[b]; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (theirs[order[i - 1]] > theirs[order[i]]) {
      EXPECT_GT(ours[order[i - 1]], ours[order[i]]) << tokens[order[i]];
    }
  }
}

}  // namespace
}  // namespace deltaw::text

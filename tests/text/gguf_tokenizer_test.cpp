#include "text/convert/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "deltaw/chat.h"
#include "golden.h"
#include "io/gguf_writer.h"
#include "support/data.h"
#include "support/mutations.h"
#include "support/temporary.h"
#include "text/convert/sentencepiece_model.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using io::GgufType;
using io::GgufValue;
using test::error_of;
using test::fixture;
using test::TemporaryFolder;

using Ids = std::vector<int64_t>;

const char* const kKeys = "tokenizer.ggml.";

GgufValue words(const std::string& key, std::vector<std::string> list) {
  return {.key = kKeys + key, .type = GgufType::list, .value = std::move(list), .items = GgufType::text};
}
GgufValue types(std::vector<int> list) {
  return {.key = std::string(kKeys) + "token_type",
          .type = GgufType::list,
          .value = std::move(list),
          .items = GgufType::i32};
}
GgufValue id(const std::string& key, int64_t id) {
  return {.key = kKeys + key + "_token_id", .type = GgufType::u32, .value = id};
}
GgufValue text(const std::string& key, const std::string& value) {
  return {.key = key, .value = value};
}
GgufValue flag(const std::string& key, bool value) {
  return {.key = kKeys + key, .type = GgufType::boolean, .value = value};
}

/// What llama.cpp's converter makes of a tokenizer.json with a BPE over bytes.
std::vector<GgufValue> values_of(const nlohmann::json& json, const std::string& pre) {
  const nlohmann::json& vocabulary = json.at("model").at("vocab");
  size_t size = vocabulary.size();
  for (const auto& token : json.at("added_tokens")) size = std::max(size, token.at("id").get<size_t>() + 1);
  std::vector<std::string> tokens(size);
  std::vector<int> kinds(size, 1);
  for (const auto& [token, number] : vocabulary.items()) tokens[number.get<size_t>()] = token;
  for (const auto& token : json.at("added_tokens")) {
    tokens[token.at("id").get<size_t>()] = token.at("content").get<std::string>();
    kinds[token.at("id").get<size_t>()] = token.at("special").get<bool>() ? 3 : 4;
  }
  std::vector<std::string> merges;
  for (const auto& merge : json.at("model").at("merges")) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return {text("general.architecture", "llama"),
          text("tokenizer.ggml.model", "gpt2"),
          text("tokenizer.ggml.pre", pre),
          words("tokens", tokens),
          types(kinds),
          words("merges", merges)};
}

/// The same of a SentencePiece model.
std::vector<GgufValue> values_of(const text::SentencePieceModel& model) {
  std::vector<std::string> tokens;
  std::vector<double> scores;
  std::vector<int> kinds;
  for (const auto& piece : model.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    kinds.push_back(static_cast<int>(piece.type));
  }
  return {text("tokenizer.ggml.model", "llama"),
          words("tokens", tokens),
          {.key = "tokenizer.ggml.scores", .type = GgufType::list, .value = scores, .items = GgufType::f32},
          types(kinds),
          id("unknown", model.unk_id),
          flag("add_bos_token", false),
          flag("remove_extra_whitespaces", model.remove_extra_whitespaces),
          flag("add_space_prefix", model.add_dummy_prefix)};
}

void set(std::vector<GgufValue>& values, const GgufValue& value) {
  std::erase_if(values, [&](const GgufValue& other) { return other.key == value.key; });
  values.push_back(value);
}

class GgufTokenizer : public testing::Test {
 protected:
  fs::path written(const std::vector<GgufValue>& values) {
    write_gguf(folder_ / "m.gguf", values, {});
    return folder_ / "m.gguf";
  }
  std::string id_of_error(const std::vector<GgufValue>& values) {
    last_ = error_of([&] { Tokenizer::from_folder(written(values)); });
    return last_.id();
  }

  TemporaryFolder folder_;
  const fs::path file_ = fixture("golden/gguf/words.gguf");
  const std::vector<GgufValue> values_ = gguf_values(io::GgufFile(file_));
  Error last_ = error_of([] {});
};

TEST_F(GgufTokenizer, CutsWordsAsEachNameSays) {
  std::ifstream in(fixture("golden/gguf/words.json"));
  const nlohmann::json golden = nlohmann::json::parse(in);
  const auto lines = golden.at("lines").get<std::vector<std::string>>();
  ASSERT_GE(golden.at("names").size(), 17u);
  for (const auto& [name, expected] : golden.at("names").items()) {
    std::vector<GgufValue> values = values_;
    set(values, text("tokenizer.ggml.pre", name));
    const Tokenizer tokenizer = Tokenizer::from_folder(written(values));
    for (size_t i = 0; i < lines.size(); ++i) {
      ASSERT_EQ(tokenizer.encode(lines[i]).ids, expected.at("ids")[i].get<Ids>()) << name << ": " << lines[i];
    }
  }
}

void expect_same(const Tokenizer& ours, const Tokenizer& original) {
  EXPECT_EQ(ours.vocab_size(), original.vocab_size());
  for (const std::string& line : test::golden_lines()) {
    const Ids ids = original.encode(line, {.add_special_tokens = false}).ids;
    ASSERT_EQ(ours.encode(line, {.add_special_tokens = false}).ids, ids) << line;
    ASSERT_EQ(ours.decode(ids), original.decode(ids)) << line;
  }
}

void expect_same_from(const fs::path& original, const std::string& pre) {
  const TemporaryFolder folder;
  const text::TokenizerConfig config = text::read_tokenizer_config(original);
  write_gguf(folder / "m.gguf", values_of(text::read_tokenizer_source(original, config).json, pre), {});
  const Tokenizer ours = Tokenizer::from_folder(folder / "m.gguf"), theirs = Tokenizer::from_folder(original);
  expect_same(ours, theirs);
  ours.save(folder / "saved");
  expect_same(Tokenizer::from_folder(folder / "saved"), theirs);
}

TEST_F(GgufTokenizer, GivesTheIdsOfTheTokenizerItWasMadeOf) {
  expect_same_from(fixture("text/fixtures/llama3"), "llama-bpe");
}

TEST_F(GgufTokenizer, GivesTheIdsOfGpt2) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/gpt2");
  expect_same_from(folder, "gpt-2");
}

TEST_F(GgufTokenizer, GivesTheIdsOfQwen3) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/qwen3");
  const TemporaryFolder named;
  for (const char* name : {"vocab.json", "merges.txt"}) fs::copy_file(folder / name, named / name);
  test::put(named / "tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  expect_same_from(named.path(), "qwen2");
}

TEST_F(GgufTokenizer, GivesTheIdsOfSentencePiece) {
  const nlohmann::json golden = test::read_fixture("sentencepiece/ids.json");
  const auto lines = golden.at("lines").get<std::vector<std::string>>();
  const auto expect = [&](const std::string& name, const Tokenizer& tokenizer) {
    const nlohmann::json& crcs = golden.at("models").at(name).at("crc");
    for (size_t i = 0; i < lines.size(); ++i) {
      std::string ids;
      for (const int64_t number : tokenizer.encode(lines[i], {.add_special_tokens = false}).ids) {
        ids += (ids.empty() ? "" : " ") + std::to_string(number);
      }
      ASSERT_EQ(test::crc(ids), crcs[i].get<std::string>()) << name << ": " << lines[i];
    }
  };
  for (const std::string name : {"llama", "shuffled", "coarse", "blanks", "shuffled_blanks", "unknown", "clean"}) {
    const auto model = text::read_sentencepiece(fixture("text/fixtures/sentencepiece/" + name + ".model"));
    const Tokenizer tokenizer = Tokenizer::from_folder(written(values_of(model)));
    EXPECT_EQ(tokenizer.vocab_size(), static_cast<int64_t>(model.pieces.size())) << name;
    expect(name, tokenizer);
  }
  const Tokenizer packaged = Tokenizer::from_folder(fixture("golden/gguf/blanks.gguf"));
  expect("blanks", packaged);
  EXPECT_TRUE(packaged.prepends_bos());
  EXPECT_FALSE(packaged.appends_eos());
  if (const auto folder = test::shared_data("tokenizers/llama2")) {
    const auto model = text::read_sentencepiece(*folder / "tokenizer.model");
    expect("llama2", Tokenizer::from_folder(written(values_of(model))));
  }
}

TEST_F(GgufTokenizer, SaysWhatTheConfigurationSays) {
  const Tokenizer tokenizer = Tokenizer::from_folder(file_);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.pad_id(), 2);
  EXPECT_EQ(tokenizer.max_length(), 2048);
  EXPECT_FALSE(tokenizer.prepends_bos());
  EXPECT_FALSE(tokenizer.gives_type_ids());
  EXPECT_TRUE(tokenizer.files().empty());
  EXPECT_EQ(Tokenizer::from_file(file_).vocab_size(), tokenizer.vocab_size());
  EXPECT_TRUE(tokenizer.is_special(0));
  const int64_t last = tokenizer.vocab_size() - 1;
  EXPECT_EQ(tokenizer.id_to_token(last), "  x  ");  // what fills up the embedding is no token
  EXPECT_TRUE(tokenizer.is_added(last));
  EXPECT_FALSE(tokenizer.is_special(last));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("caf\xc3\xa9 <|im_end|> x").ids), "caf\xc3\xa9  x");
}

TEST_F(GgufTokenizer, PutsAroundATextWhatTheFlagsSay) {
  const auto around = [&](const std::vector<GgufValue>& changes) {
    std::vector<GgufValue> values = values_;
    for (const GgufValue& change : changes) set(values, change);
    const Tokenizer tokenizer = Tokenizer::from_folder(written(values));
    return std::pair(tokenizer.prepends_bos(), tokenizer.appends_eos());
  };
  EXPECT_EQ(around({flag("add_bos_token", true)}), std::pair(true, false));
  EXPECT_EQ(around({flag("add_eos_token", true)}), std::pair(false, true));
  std::vector<GgufValue> silent = values_;
  std::erase_if(silent, [](const GgufValue& value) { return value.key == "tokenizer.ggml.add_bos_token"; });
  EXPECT_FALSE(Tokenizer::from_folder(written(silent)).prepends_bos());
  set(silent, text("tokenizer.ggml.pre", "llama-bpe"));
  EXPECT_TRUE(Tokenizer::from_folder(written(silent)).prepends_bos());

  const std::vector<GgufValue> small = {text("tokenizer.ggml.model", "llama"),
                                        words("tokens", {"<unk>", "<s>", "</s>", "a", "\xE2\x96\x81"}),
                                        types({2, 3, 3, 1, 1})};
  const Tokenizer tokenizer = Tokenizer::from_folder(written(small));
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.encode("a").ids, (Ids{1, 4, 3}));
}

TEST_F(GgufTokenizer, IsWrittenAsAFolderWithTheSameIds) {
  Tokenizer tokenizer = Tokenizer::from_folder(file_);
  const int64_t size = tokenizer.vocab_size();
  EXPECT_EQ(tokenizer.add_tokens({"<new>", "<think>"}, true), 1);
  EXPECT_EQ(tokenizer.token_to_id("<new>"), size);
  tokenizer.save(folder_ / "saved");
  const Tokenizer saved = Tokenizer::from_folder(folder_ / "saved");
  EXPECT_EQ(saved.token_to_id("<new>"), size);
  EXPECT_EQ(saved.bos_id(), 1);
  EXPECT_EQ(saved.max_length(), 2048);
  EXPECT_FALSE(saved.gives_type_ids());
  for (const std::string& line : test::golden_lines()) ASSERT_EQ(saved.encode(line).ids, tokenizer.encode(line).ids);
  const Json messages = {{{"role", "user"}, {"content", "Hi"}}};
  const auto of_file = ChatTemplate::from_folder(file_), of_folder = ChatTemplate::from_folder(folder_ / "saved");
  ASSERT_TRUE(of_file && of_folder);
  EXPECT_EQ(of_file->render(messages, true).text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(of_folder->render(messages, true).text, of_file->render(messages, true).text);
}

TEST_F(GgufTokenizer, TakesTheTemplateNamedDefaultOfSeveral) {
  std::vector<GgufValue> values = values_;
  values.push_back({.key = "tokenizer.chat_templates", .type = GgufType::list, .value = {"tool_use"}});
  values.push_back(text("tokenizer.chat_template.tool_use", "tools"));
  set(values, text("tokenizer.chat_template", "{{ bos_token }}plain"));
  EXPECT_EQ(ChatTemplate::from_folder(written(values))->render(Json::array(), false).text, "<|im_start|>plain");
  std::erase_if(values, [](const GgufValue& value) { return value.key.starts_with("tokenizer.chat"); });
  EXPECT_FALSE(ChatTemplate::from_folder(written(values)));
}

TEST_F(GgufTokenizer, StripsBehindTheTokensOfPhi3) {
  const auto blank = [&](const std::string& name) {
    std::vector<GgufValue> values = values_;
    set(values, text("general.name", name));
    const Tokenizer tokenizer = Tokenizer::from_folder(written(values));
    return tokenizer.encode("<|im_end|>\n a").ids.size() > tokenizer.encode("<|im_end|>a").ids.size();
  };
  EXPECT_TRUE(blank("Llama"));
  EXPECT_FALSE(blank("Phi-3 Mini"));
}

TEST_F(GgufTokenizer, RefusesWhatItCannotRead) {
  const auto with = [&](const GgufValue& value) {
    std::vector<GgufValue> values = values_;
    set(values, value);
    return id_of_error(values);
  };
  EXPECT_EQ(with(text("tokenizer.ggml.pre", "bloom")), "format.unsupported");
  EXPECT_NE(last_.parts().what.find("\"bloom\" is not known; known are a.x-4.0"), std::string::npos) << last_.what();
  EXPECT_NE(last_.parts().what.find("smollm"), std::string::npos) << last_.what();
  EXPECT_EQ(with(text("tokenizer.ggml.model", "bert")), "format.unsupported");
  EXPECT_NE(last_.parts().what.find("\"bert\""), std::string::npos) << last_.what();
  EXPECT_EQ(with(types({1, 2, 3})), "format.tokenizer");
  EXPECT_NE(last_.parts().what.find("it has 3 members"), std::string::npos) << last_.what();
  EXPECT_EQ(with(id("bos", 100000)), "format.tokenizer");
  EXPECT_NE(last_.parts().what.find("there is no token 100000"), std::string::npos) << last_.what();
  EXPECT_EQ(with(text("tokenizer.ggml.tokens", "a")), "format.tokenizer");
  EXPECT_NE(last_.parts().where.find("key 'tokenizer.ggml.tokens'"), std::string::npos) << last_.what();
  EXPECT_EQ(with(words("merges", {"no-blank"})), "format.merges");

  const std::vector<GgufValue> twice = {text("tokenizer.ggml.model", "gpt2"), words("tokens", {"a", "b", "a"}),
                                        words("merges", {})};
  EXPECT_EQ(id_of_error(twice), "format.tokenizer");
  EXPECT_EQ(last_.parts().what, "\"a\" is token 0 and token 2");
  std::vector<GgufValue> no_bos = twice;
  set(no_bos, words("tokens", {"a", "b"}));
  set(no_bos, flag("add_bos_token", true));
  EXPECT_EQ(id_of_error(no_bos), "format.tokenizer");
  EXPECT_EQ(id_of_error({}), "format.tokenizer");
  EXPECT_NE(last_.parts().where.find("key 'tokenizer.ggml.model'"), std::string::npos) << last_.what();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(
      id_of_error({text("tokenizer.ggml.model", "llama"),
                   words("tokens", {"<unk>"}),
                   {.key = "tokenizer.ggml.scores", .type = GgufType::list, .value = {nan}, .items = GgufType::f32}}),
      "format.tokenizer");
}

TEST_F(GgufTokenizer, StrangeValuesAreRefusedOrHarmless) {
  const std::vector<GgufValue> strange = {
      {.type = GgufType::text, .value = ""},
      {.type = GgufType::text, .value = "llama"},
      {.type = GgufType::text, .value = "{% if"},
      {.type = GgufType::boolean, .value = true},
      {.type = GgufType::u32, .value = 0},
      {.type = GgufType::i64, .value = -1},
      {.type = GgufType::u64, .value = std::numeric_limits<uint64_t>::max()},
      {.type = GgufType::f32, .value = 0.5},
      {.type = GgufType::list, .value = Json::array(), .items = GgufType::text},
      {.type = GgufType::list, .value = {"", "a", " ", "a b"}, .items = GgufType::text},
      {.type = GgufType::list, .value = {7, -1}, .items = GgufType::i32},
      {.type = GgufType::list, .value = {0.0, -1.5}, .items = GgufType::f32},
  };
  for (const fs::path& file : {file_, fixture("golden/gguf/blanks.gguf")}) {
    const std::vector<GgufValue> whole = gguf_values(io::GgufFile(file));
    for (size_t at = 0; at < whole.size(); ++at) {
      for (GgufValue value : strange) {
        value.key = whole[at].key;
        std::vector<GgufValue> values = whole;
        values[at] = value;
        const fs::path changed = written(values);
        test::ends_clearly(value.key + " = " + value.value.dump(), [&] {
          const Tokenizer tokenizer = Tokenizer::from_folder(changed);
          tokenizer.decode(tokenizer.encode("It's  12 caf\xc3\xa9 <s> \n").ids);
          ChatTemplate::from_folder(changed);
        });
      }
    }
  }
}

}  // namespace
}  // namespace deltaw

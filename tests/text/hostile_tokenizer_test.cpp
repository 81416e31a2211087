// Tokenizer files that were written to do harm, or by a faulty tool: every one is read, or ends in an error that says
// what is wrong.
#include <gtest/gtest.h>

#include "core/files.h"
#include "deltaw/chat.h"
#include "deltaw/tokenizer.h"
#include "support/mutations.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;
using test::ends_clearly;
using test::error_of;
using test::put;

Json added(int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

/// A file with one of every part there is.
Json every_part() {
  return Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
      {"type": "NFKC"}, {"type": "Strip", "strip_left": true, "strip_right": true}, {"type": "StripAccents"},
      {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Lowercase"},
      {"type": "Replace", "pattern": {"String": "x"}, "content": "a"}, {"type": "Prepend", "prepend": "a"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "c+"}, "behavior": "Isolated", "invert": false},
      {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Isolated"},
      {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "b", "prepend_scheme": "never", "split": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
    "post_processor": {"type": "Sequence", "processors": [
      {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
       "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
       "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}}]},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "b"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "ByteLevel"},
      {"type": "Metaspace", "replacement": "b", "prepend_scheme": "never", "split": false},
      {"type": "WordPiece", "prefix": "##", "cleanup": true}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "a", "continuing_subword_prefix": null,
              "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
              "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": [["a", "b"]]}})");
}

class HostileTokenizer : public testing::Test {
 protected:
  /// Reads the folder as a verb does, and uses what it gives. Whether all went well.
  bool read(const std::string& what) const {
    return ends_clearly(what, [&] {
      Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
      const Encoding one = tokenizer.encode("Ab c, 12 x\xC3\xA9", {.max_length = 40});
      const Encoding two = tokenizer.encode("abc", "cab");
      tokenizer.decode(one.ids);
      tokenizer.decode({0, 1, 2, 3, 4, 5}, /*skip_special_tokens=*/false);
      tokenizer.add_tokens({"<new>"}, true);
      if (read_++ % 16 == 0) tokenizer.save(folder / "saved");  // waits for the disk
    });
  }
  void write(const std::string& name, const Json& value) const { put(folder / name, value.dump()); }
  /// Reads it once as it is, which must go well, and after every change.
  void mutate(const std::string& name, const Json& whole) const {
    write(name, whole);
    ASSERT_TRUE(read(name)) << name;
    int refused = 0;
    test::each_mutation(whole, [&](const Json& changed, const std::string& what) {
      write(name, changed);
      refused += !read(name + ": " + what);
    });
    EXPECT_GT(refused, 0) << name;
    write(name, whole);
  }

  test::TemporaryFolder folder;

 private:
  mutable int read_ = 0;
};

TEST_F(HostileTokenizer, WithAnyValueOfAnyTypeEndsInAClearError) {
  Json whole = every_part();
  whole["added_tokens"] = {added(4, "<s>")};
  mutate("tokenizer.json", whole);

  whole["normalizer"] = nullptr;
  whole["post_processor"] = {{"type", "RobertaProcessing"},
                             {"sep", {"<s>", 4}},
                             {"cls", {"<s>", 4}},
                             {"trim_offsets", true},
                             {"add_prefix_space", true}};
  whole["decoder"] = {{"type", "BPEDecoder"}, {"suffix", "</w>"}};
  whole["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  whole["model"] = {{"type", "WordPiece"},
                    {"unk_token", "a"},
                    {"continuing_subword_prefix", "##"},
                    {"max_input_chars_per_word", 100},
                    {"vocab", {{"a", 0}, {"##b", 1}, {"b", 2}, {"c", 3}}}};
  mutate("tokenizer.json", whole);

  whole["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"<s>", 4}}, {"cls", {"<s>", 4}}};
  whole["decoder"] = nullptr;
  whole["model"] = {{"type", "Unigram"},
                    {"unk_id", 0},
                    {"byte_fallback", false},
                    {"vocab", Json::array({{"a", -1.5}, {"b", -2}, {"ab", -2.5}, {"c", -3}})}};
  mutate("tokenizer.json", whole);
}

TEST_F(HostileTokenizer, MayHaveConfigurationsOfAnyType) {
  Json whole = every_part();
  whole["added_tokens"] = {added(4, "<s>")};
  write("tokenizer.json", whole);
  const Json config = {{"bos_token", "<s>"},
                       {"eos_token", added(4, "<s>")},
                       {"pad_token", "<s>"},
                       {"add_bos_token", true},
                       {"add_eos_token", false},
                       {"model_max_length", 40},
                       {"model_input_names", {"input_ids", "attention_mask"}},
                       {"padding_side", "right"},
                       {"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"chat_template", "{{ bos_token }}{{ messages[0].content }}"}};
  mutate("tokenizer_config.json", config);
  mutate("special_tokens_map.json", {{"bos_token", "<s>"}, {"unk_token", {{"content", "a"}}}});
  test::each_mutation(config, [&](const Json& changed, const std::string& what) {
    write("tokenizer_config.json", changed);
    ends_clearly(what, [&] {
      if (const auto chat = ChatTemplate::from_folder(folder.path()))
        chat->render({{{"role", "user"}, {"content", "a"}}}, true);
    });
  });
}

TEST_F(HostileTokenizer, MayBeInOlderFilesOfAnyType) {
  const Json byte_level = {{"a", 0},    {"b", 1},     {"ab", 2},    {"<|endoftext|>", 3}, {"<s>", 4},
                           {"</s>", 5}, {"<unk>", 6}, {"<pad>", 7}, {"<mask>", 8}};
  put(folder / "merges.txt", "#version: 0.2\na b\n");
  const Json config = {{"add_prefix_space", false},
                       {"add_bos_token", true},
                       {"bos_token", "<|endoftext|>"},
                       {"trim_offsets", true},
                       {"added_tokens_decoder", {{"3", added(3, "<|endoftext|>")}}}};
  for (const char* type : {"GPT2Tokenizer", "RobertaTokenizer", "Qwen2Tokenizer"}) {
    Json named = config;
    named["tokenizer_class"] = type;
    write("tokenizer_config.json", named);
    mutate("vocab.json", byte_level);
    mutate("tokenizer_config.json", named);
  }
  fs::remove(folder / "vocab.json");
  put(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n");
  mutate("tokenizer_config.json", {{"do_lower_case", true},
                                   {"strip_accents", true},
                                   {"tokenize_chinese_chars", true},
                                   {"unk_token", "[UNK]"},
                                   {"cls_token", {{"content", "[CLS]"}}},
                                   {"added_tokens_decoder", {{"0", added(0, "[PAD]")}}}});
}

// ---- parts in parts ----

/// `inner` in `levels` Sequences, each in the next. As text: the deepest no value of ours could hold.
std::string nested(const std::string& list, const Json& inner, int levels) {
  std::string text = inner.dump();
  std::string open, close;
  for (int i = 0; i < levels; ++i) {
    open += R"({"type": "Sequence", ")" + list + "\": [";
    close += "]}";
  }
  return open + text + close;
}

TEST_F(HostileTokenizer, NestsPartsToALimit) {
  struct Kind {
    const char *part, *list;
    Json inner;
  };
  const std::vector<Kind> kinds = {
      {"normalizer", "normalizers", {{"type", "NFC"}}},
      {"pre_tokenizer", "pretokenizers", {{"type", "WhitespaceSplit"}}},
      {"post_processor", "processors", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}}},
      {"decoder", "decoders", {{"type", "Fuse"}}}};
  for (const auto& [part, list, inner] : kinds) {
    Json whole = every_part();
    whole["added_tokens"] = {added(4, "<s>")};
    whole[part] = "HERE";
    const std::string text = whole.dump();
    const size_t at = text.find("\"HERE\"");
    const auto id_at = [&](int levels) {
      put(folder / "tokenizer.json", std::string(text).replace(at, 6, nested(list, inner, levels)));
      const Error error = error_of([&] { Tokenizer::from_folder(folder.path()); });
      EXPECT_LT(error.parts().where.size(), 4096u);
      return error.id();
    };
    EXPECT_EQ(id_at(10), "none") << part;
    EXPECT_EQ(id_at(63), "none") << part;
    EXPECT_EQ(id_at(100), "format.tokenizer") << part;
    EXPECT_EQ(id_at(100'000), "format.json") << part;
  }
}

// ---- expressions and tables that ask for more time or memory than there is ----

TEST_F(HostileTokenizer, NamesAnExpressionThatComesToNoEnd) {
  Json whole = every_part();
  whole["added_tokens"] = {added(4, "<s>")};
  whole["normalizer"] = nullptr;
  whole["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a|aa|a*)*[^a]"}}}, {"behavior", "Isolated"}, {"invert", false}};
  write("tokenizer.json", whole);
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  const Error error = error_of([&] { tokenizer.encode(std::string(60, 'a')); });
  EXPECT_EQ(error.id(), "data.regex");
  EXPECT_NE(error.parts().where.find("(a|aa|a*)*[^a]"), std::string::npos) << error.what();
  EXPECT_EQ(tokenizer.encode("cc").ids.size(), 3u) << "what matches or not is found as before";
}

TEST_F(HostileTokenizer, BoundsATextThatItsStepsDouble) {
  const Json twice = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  const Json longer = {{"type", "Prepend"}, {"prepend", std::string(1 << 20, 'a')}};
  Json whole = every_part();
  whole["added_tokens"] = {added(4, "<s>")};
  whole["pre_tokenizer"] = nullptr;
  const auto id_of = [&](const Json& normalizers, const Json& decoders) {
    whole["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
    whole["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
    write("tokenizer.json", whole);
    return error_of([&] {
             const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
             tokenizer.decode(tokenizer.encode("ab").ids);
           })
        .id();
  };
  const Json none = Json::array();
  EXPECT_EQ(id_of(Json(5, twice), Json(5, twice)), "none");
  EXPECT_EQ(id_of(Json(60, twice), none), "format.tokenizer-growth");
  EXPECT_EQ(id_of(Json(60, longer), none), "format.tokenizer-growth");
  EXPECT_EQ(id_of(none, Json(60, twice)), "format.tokenizer-growth");
}

TEST_F(HostileTokenizer, BoundsWhatATemplateAdds) {
  Json whole = every_part();
  whole["added_tokens"] = {added(4, "<s>")};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
             mark = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const auto id_of = [&](const Json& single) {
    whole["post_processor"] = {{"type", "TemplateProcessing"},
                               {"single", single},
                               {"pair", {text, {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
                               {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {4}}, {"tokens", {"<s>"}}}}}}};
    write("tokenizer.json", whole);
    return error_of([&] { Tokenizer::from_folder(folder.path()); }).id();
  };
  Json marks = Json::array({text});
  for (int i = 0; i < 100; ++i) marks.push_back(mark);
  EXPECT_EQ(id_of(marks), "none");
  for (int i = 0; i < 5000; ++i) marks.push_back(mark);
  EXPECT_EQ(id_of(marks), "format.tokenizer");
  EXPECT_EQ(id_of(Json::array({text, text})), "none");
  EXPECT_EQ(id_of(Json(100, text)), "format.tokenizer");
}

}  // namespace
}  // namespace deltaw

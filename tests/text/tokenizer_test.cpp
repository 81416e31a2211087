#include "deltaw/tokenizer.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "deltaw/error.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using nlohmann::json;
using test::fixture;
using test::TemporaryFolder;

json small_file() {
  return json::parse(R"({
    "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": [["a", "b"]]}})");
}

json added(int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

/// The error that reading the small file gives after `change`.
ErrorParts error_after(const std::function<void(json&)>& change) {
  const TemporaryFolder folder;
  json file = small_file();
  change(file);
  try {
    Tokenizer::from_file(folder.write("tokenizer.json", file.dump()));
  } catch (const Error& error) {
    EXPECT_NE(error.parts().where.find("tokenizer.json"), std::string::npos);
    EXPECT_FALSE(error.parts().fix.empty());
    return error.parts();
  }
  return {.id = "none", .what = "", .where = "", .fix = ""};
}

Tokenizer changed(const std::function<void(json&)>& change) {
  const TemporaryFolder folder;
  json file = small_file();
  change(file);
  return Tokenizer::from_file(folder.write("tokenizer.json", file.dump()));
}

std::vector<int64_t> ids_after(const std::function<void(json&)>& change, const std::string& text) {
  return changed(change).encode(text).ids;
}

TEST(TokenizerFile, ReadsMergesAsPairsAndAsLines) {
  EXPECT_EQ(ids_after([](json&) {}, "abc"), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(ids_after([](json& file) { file["model"]["merges"] = {"a b"}; }, "abc"), (std::vector<int64_t>{2, 3}));
}

TEST(TokenizerFile, IgnoreMergesTakesAWholeWordFromTheVocabulary) {
  const auto with_word = [](bool ignore) {
    return [ignore](json& file) {
      file["model"]["vocab"]["cab"] = 4;
      file["model"]["ignore_merges"] = ignore;
    };
  };
  EXPECT_EQ(ids_after(with_word(false), "cab"), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(ids_after(with_word(true), "cab"), (std::vector<int64_t>{4}));
}

TEST(TokenizerFile, FusesUnknownCharactersOnlyWhenAsked) {
  const auto with_unknown = [](bool fuse) {
    return [fuse](json& file) {
      file["model"]["unk_token"] = "c";
      file["model"]["fuse_unk"] = fuse;
    };
  };
  EXPECT_EQ(ids_after(with_unknown(false), "xyab"), (std::vector<int64_t>{3, 3, 2}));
  EXPECT_EQ(ids_after(with_unknown(true), "xyab"), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(ids_after([](json&) {}, "xyab"), (std::vector<int64_t>{2})) << "without an unknown token they vanish";
}

// An unknown character costs ten more than the rarest piece, as in SentencePiece.
TEST(TokenizerFile, PrefersRarePiecesToAnUnknownCharacter) {
  const auto unigram = [](json& file) {
    const json vocab = json::parse(R"([["<unk>", 0], ["w", -8], ["wx", -1], ["xc", -8]])");
    file["model"] = {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}};
  };
  EXPECT_EQ(ids_after(unigram, "wxc"), (std::vector<int64_t>{1, 3})) << "-16, not -1 - 18";
  EXPECT_EQ(ids_after(unigram, "wxd"), (std::vector<int64_t>{2, 0}));
}

TEST(TokenizerFile, NamesThePartItDoesNotImplement) {
  const auto scripts = error_after([](json& file) { file["pre_tokenizer"] = {{"type", "UnicodeScripts"}}; });
  EXPECT_EQ(scripts.id, "format.unsupported");
  EXPECT_NE(scripts.what.find("UnicodeScripts"), std::string::npos);
  EXPECT_NE(scripts.where.find("pre_tokenizer"), std::string::npos);

  const auto nested = error_after([](json& file) {
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}};
  });
  EXPECT_EQ(nested.id, "format.unsupported");
  EXPECT_NE(nested.where.find("normalizer.normalizers[1]"), std::string::npos);

  EXPECT_EQ(error_after([](json& file) { file["model"] = {{"type", "WordGraph"}}; }).id, "format.unsupported");
  EXPECT_EQ(error_after([](json& file) { file["model"]["dropout"] = 0.1; }).id, "format.unsupported");
  EXPECT_EQ(error_after([](json& file) { file["version"] = "2.0"; }).id, "format.unsupported");
  EXPECT_EQ(error_after([](json& file) { file["decoder"] = {{"type", "CTC"}}; }).id, "format.unsupported");
}

TEST(TokenizerFile, RefusesARegularExpressionThatCannotBeRead) {
  for (const char* source : {"(", "[a", "a\\", "[a&&b]", "[a[b]]", "\\p{Nonsense}", "(?=a", "(?z)a", "*"}) {
    const auto error = error_after([&](json& file) {
      file["pre_tokenizer"] = {
          {"type", "Split"}, {"pattern", {{"Regex", source}}}, {"behavior", "Isolated"}, {"invert", false}};
    });
    EXPECT_EQ(error.id, "format.unsupported") << source;
    EXPECT_NE(error.where.find("pre_tokenizer.pattern.Regex"), std::string::npos) << source;
  }
}

TEST(TokenizerFile, RefusesMergesOfUnknownPieces) {
  const auto half = error_after([](json& file) { file["model"]["merges"] = json::array({json::array({"a", "zz"})}); });
  EXPECT_EQ(half.id, "format.merges");
  EXPECT_NE(half.what.find("\"zz\""), std::string::npos);
  const auto joined = error_after([](json& file) { file["model"]["merges"] = json::array({json::array({"b", "c"})}); });
  EXPECT_EQ(joined.id, "format.merges");
  EXPECT_NE(joined.what.find("\"bc\""), std::string::npos);
  EXPECT_EQ(error_after([](json& file) { file["model"]["merges"] = {"a b c"}; }).id, "format.merges");
  EXPECT_EQ(error_after([](json& file) { file["model"]["merges"] = {{"a"}}; }).id, "format.merges");
}

TEST(TokenizerFile, ReadsAVocabularyThatLeavesIdsOut) {
  const auto gaps = [](json& file) { file["model"]["vocab"]["c"] = 9; };
  EXPECT_EQ(ids_after(gaps, "abcab"), (std::vector<int64_t>{2, 9, 2}));
  Tokenizer tokenizer = changed(gaps);
  EXPECT_EQ(tokenizer.vocab_size(), 10);
  EXPECT_EQ(tokenizer.decode({2, 3, 8, 9}, false), "ab c") << "nothing stands for 3 and 8";
  EXPECT_FALSE(tokenizer.id_to_token(3));
  EXPECT_EQ(tokenizer.add_tokens({"<new>"}, false), 1);
  EXPECT_EQ(tokenizer.token_to_id("<new>"), 4) << "numbered from the count of the pieces, as the library does";

  Tokenizer taken = changed([](json& file) { file["model"]["vocab"]["c"] = 4; });
  EXPECT_THROW(taken.add_tokens({"<new>"}, false), Error);
}

TEST(TokenizerFile, RefusesAVocabularyWhoseIdsCannotBe) {
  EXPECT_EQ(error_after([](json& file) { file["model"]["vocab"]["c"] = 64; }).id, "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["model"]["vocab"]["c"] = 2; }).id, "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["model"]["vocab"]["c"] = -1; }).id, "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["model"]["vocab"]["c"] = "3"; }).id, "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["model"]["vocab"]["c"] = 1.5; }).id, "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["model"]["vocab"] = json::object(); }).id, "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["added_tokens"] = json::array({added(7, "<s>")}); }).id,
            "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["added_tokens"] = json::array({added(1, "<s>")}); }).id,
            "format.vocabulary");
  EXPECT_EQ(error_after([](json& file) { file["added_tokens"] = json::array({added(4, "<s>")}); }).id, "none");
}

TEST(TokenizerFile, RefusesMissingKeysAndWrongTypes) {
  const std::vector<std::function<void(json&)>> damages = {
      [](json& file) { file = json::array(); },
      [](json& file) { file.erase("model"); },
      [](json& file) { file["model"] = 3; },
      [](json& file) { file["model"].erase("vocab"); },
      [](json& file) {
        file["model"]["vocab"] = {1, 2};
      },
      [](json& file) { file["model"].erase("merges"); },
      [](json& file) { file["model"]["merges"] = "a b"; },
      [](json& file) { file["model"]["merges"] = {3}; },
      [](json& file) { file["model"]["unk_token"] = "nowhere"; },
      [](json& file) { file["model"]["fuse_unk"] = 1; },
      [](json& file) {
        file["pre_tokenizer"] = {{"kind", "ByteLevel"}};
      },
      [](json& file) {
        file["pre_tokenizer"] = {{"type", 7}};
      },
      [](json& file) {
        file["pre_tokenizer"] = {{"type", "Digits"}};
      },
      [](json& file) {
        file["normalizer"] = {{"type", "Sequence"}, {"normalizers", 1}};
      },
      [](json& file) {
        file["decoder"] = {{"type", "Strip"}, {"content", "ab"}, {"start", 1}, {"stop", 0}};
      },
      [](json& file) {
        file["added_tokens"] = {{{"id", 4}}};
      },
      [](json& file) {
        file["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"x"}}, {"cls", {"y", 1}}};
      },
      [](json& file) {
        file["post_processor"] = {{"type", "TemplateProcessing"},
                                  {"single", {{{"SpecialToken", {{"id", "x"}, {"type_id", 0}}}}}},
                                  {"pair", json::array()},
                                  {"special_tokens", json::object()}};
      },
      [](json& file) {
        file["post_processor"] = {{"type", "TemplateProcessing"},
                                  {"single", {{{"Sequence", {{"id", "B"}, {"type_id", 0}}}}}},
                                  {"pair", json::array()},
                                  {"special_tokens", json::object()}};
      },
  };
  for (size_t i = 0; i < damages.size(); ++i)
    EXPECT_EQ(error_after(damages[i]).id, "format.tokenizer") << "damage " << i;
}

TEST(TokenizerFile, RefusesAFileCutShortAtEveryPlace) {
  const TemporaryFolder folder;
  const std::string whole = small_file().dump();
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto file = folder.write("tokenizer.json", std::string_view(whole).substr(0, size));
    try {
      Tokenizer::from_file(file);
      ADD_FAILURE() << "read " << size << " bytes of " << whole.size();
    } catch (const Error& error) {
      EXPECT_EQ(error.id(), "format.json");
    }
  }
}

TEST(TokenizerFolder, SaysWhatItLooksFor) {
  const TemporaryFolder folder;
  try {
    Tokenizer::from_folder(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "io.not-found");
    EXPECT_NE(error.parts().what.find("tokenizer.json"), std::string::npos);
  }
}

TEST(TokenizerFolder, TakesPaddingFromTheConfiguration) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", small_file().dump());
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).pad_id(), std::nullopt);
  EXPECT_FALSE(Tokenizer::from_folder(folder.path()).pads_left());

  folder.write("special_tokens_map.json", R"({"pad_token": {"content": "c"}})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).pad_id(), 3);
  folder.write("tokenizer_config.json", R"({"pad_token": "b", "padding_side": "left"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).pad_id(), 3);  // the older file wins, as in transformers
  folder.write("tokenizer_config.json", R"({"pad_token": "b", "padding_side": "left", "added_tokens_decoder": {}})");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  EXPECT_EQ(tokenizer.pad_id(), 1);  // but where added_tokens_decoder stands
  EXPECT_TRUE(tokenizer.pads_left());
  EXPECT_EQ(tokenizer.files().size(), 3u);

  folder.write("tokenizer_config.json", R"({"padding_side": "up"})");
  EXPECT_THROW(Tokenizer::from_folder(folder.path()), Error);
}

TEST(TokenizerFolder, TakesTheLengthFromTheConfigurationWhereItIsOne) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", small_file().dump());
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).max_length(), 0);
  folder.write("tokenizer_config.json", R"({"model_max_length": 512})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).max_length(), 512);
  folder.write("tokenizer_config.json", R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).max_length(), 0);
  folder.write("tokenizer_config.json", R"({"model_max_length": null})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).max_length(), 0);
}

TEST(TokenizerFolder, RefusesOlderFilesOfAnUnknownClass) {
  const TemporaryFolder folder;
  folder.write("vocab.json", R"({"a": 0})");
  folder.write("merges.txt", "#version: 0.2\n");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "BloomTokenizer"})");
  try {
    Tokenizer::from_folder(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "format.unsupported");
    EXPECT_NE(error.parts().what.find("BloomTokenizer"), std::string::npos);
  }
}

TEST(TokenizerFolder, ReadsVocabTxtAsItsConfigurationSays) {
  const TemporaryFolder folder;
  folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nCaf\xC3\xA9\ncafe\n");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).encode("Caf\xC3\xA9").ids, (std::vector<int64_t>{2, 6, 3}));
  folder.write("tokenizer_config.json", R"({"do_lower_case": false})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).encode("Caf\xC3\xA9").ids, (std::vector<int64_t>{2, 5, 3}));
  folder.write("tokenizer_config.json", R"({"do_lower_case": true, "strip_accents": false})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).encode("Caf\xC3\xA9").ids, (std::vector<int64_t>{2, 1, 3}));
}

TEST(Tokenizer, ReplacesBrokenUtf8AndCountsOffsetsInCodePoints) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/byte_level"));
  const std::string good = "a\xEF\xBF\xBD\xEF\xBF\xBD z";
  const Encoding expected = tokenizer.encode(good);
  const Encoding ours = tokenizer.encode("a\xE4\xB8\xFF z");  // a character cut short, then a byte that never occurs
  EXPECT_EQ(ours.ids, expected.ids);
  EXPECT_EQ(ours.offsets, expected.offsets);
  EXPECT_EQ(tokenizer.decode(ours.ids), good);
  ASSERT_GE(ours.offsets.size(), 2u);
  EXPECT_EQ(ours.offsets[ours.offsets.size() - 2].second, 5);
}

TEST(Tokenizer, KnowsItsVocabulary) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/wordpiece"));
  EXPECT_EQ(tokenizer.vocab_size(), 2004);
  EXPECT_EQ(tokenizer.token_to_id("[SEP]"), 3);
  EXPECT_EQ(tokenizer.id_to_token(2003), "[right]");
  EXPECT_EQ(tokenizer.id_to_token(2004), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(-1), std::nullopt);
  EXPECT_EQ(tokenizer.token_to_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.decode({-5, 2, 1'000'000}, false), "[CLS]");
}

TEST(Tokenizer, SaysWhenSpecialTokensAloneAreTooLong) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/wordpiece"));
  EXPECT_EQ(tokenizer.encode("the end", {.max_length = 2}).ids, (std::vector<int64_t>{2, 3}));
  try {
    tokenizer.encode("the end", {.max_length = 1});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "config.max-length");
    EXPECT_EQ(error.exit_code(), 2);
  }
}

TEST(Tokenizer, TakesTimeInProportionToAVeryLongWord) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/byte_level"));
  const std::string word(2'000'000, 'e');  // quadratic time would be hours
  const Encoding encoding = tokenizer.encode(word, {.add_special_tokens = false});
  EXPECT_EQ(tokenizer.decode(encoding.ids), word);
  EXPECT_EQ(encoding.offsets.back().second, 2'000'000);
}

}  // namespace
}  // namespace deltaw

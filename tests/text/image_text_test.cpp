// The tokenizers of CLIP, SigLIP and SigLIP 2 against transformers (oracle/make_image_text_tokenizers.py).
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/json.h"
#include "core/unpack.h"
#include "deltaw/error.h"
#include "golden.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;
using test::TemporaryFolder;
using Ids = std::vector<int64_t>;

void copy_fixture(const TemporaryFolder& folder, const std::string& name, const std::vector<std::string>& files) {
  for (const std::string& file : files) folder.copy(fixture("text/fixtures/" + name + "/" + file));
}

TEST(ClipTokenizer, AgreesWithTransformersWhicheverFilesAreThere) {
  const nlohmann::json golden = test::read_fixture("clip/golden.json");
  const Tokenizer whole = Tokenizer::from_folder(fixture("text/fixtures/clip"));
  EXPECT_EQ(whole.files().front().filename(), "tokenizer.json");
  test::expect_golden(golden, whole);

  const TemporaryFolder lists;
  copy_fixture(lists, "clip", {"vocab.json", "merges.txt", "tokenizer_config.json"});
  test::expect_golden(golden, Tokenizer::from_folder(lists.path()));
}

TEST(ClipTokenizer, IsKnownByTheModelAndByTheVocabularyWhereNoFileNamesIt) {
  const nlohmann::json golden = test::read_fixture("clip/golden.json");
  const TemporaryFolder lists, model;
  copy_fixture(lists, "clip", {"vocab.json", "merges.txt"});
  test::expect_whole(golden, Tokenizer::from_folder(lists.path()));
  model.write("config.json", R"({"model_type": "clip"})");
  lists.write("tokenizer_config.json", R"({"model_max_length": 77})");
  const Tokenizer tokenizer = Tokenizer::from_folder(lists.path(), model.path());
  test::expect_whole(golden, tokenizer);
  EXPECT_EQ(tokenizer.pad_id(), tokenizer.eos_id());

  const TemporaryFolder json;  // whose decoder alone would leave the ends of words in the text
  copy_fixture(json, "clip", {"tokenizer.json"});
  const Ids ids = tokenizer.encode("  A photo of a CAT ").ids;
  EXPECT_EQ(Tokenizer::from_folder(json.path(), model.path()).decode(ids), "a photo of a cat");
  EXPECT_NE(Tokenizer::from_folder(json.path()).decode(ids).find("</w>"), std::string::npos);
}

TEST(ClipTokenizer, CutsTo77TokensBeforeTheEndTokenAndFillsWithThePadToken) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/clip"));
  EXPECT_EQ(tokenizer.max_length(), 77);
  EXPECT_EQ(tokenizer.pad_id(), tokenizer.token_to_id("<|endoftext|>"));
  EXPECT_FALSE(tokenizer.gives_type_ids());
  EXPECT_FALSE(tokenizer.pads_left());
  const std::string text(500, '7');
  const Encoding cut = tokenizer.encode(text, {.max_length = tokenizer.max_length()});
  ASSERT_EQ(cut.ids.size(), 77u);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.ids.front(), tokenizer.bos_id());
  EXPECT_EQ(cut.ids.back(), tokenizer.eos_id());
  EXPECT_EQ(cut.ids[75], tokenizer.token_to_id("7</w>"));
}

TEST(ClipTokenizer, TakesAnotherPadTokenOutOfTheText) {
  const TemporaryFolder folder;
  copy_fixture(folder, "clip", {"vocab.json", "merges.txt"});
  nlohmann::json config = test::read_fixture("clip/tokenizer_config.json");
  config["pad_token"] = "!";
  folder.write("tokenizer_config.json", config.dump());
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  EXPECT_EQ(tokenizer.pad_id(), 0);
  test::expect_encode_pair_decode(test::read_fixture("clip/golden_pad.json"), tokenizer);

  folder.copy(fixture("text/fixtures/clip/tokenizer.json"));  // which does not name it
  test::expect_encode_pair_decode(test::read_fixture("clip/golden_pad.json"), Tokenizer::from_folder(folder.path()));
}

TEST(ClipTokenizer, AgreesWithTransformersOnOpenAIsVocabulary) {
  DELTAW_NEEDS_DATA(data, "tokenizers/clip");
  const std::string file = (data / "bpe_simple_vocab_16e6.txt.gz").string();
  std::istringstream rows(unpacked(read_file(file), file));
  const nlohmann::json small = test::read_fixture("clip/vocab.json");
  nlohmann::json vocabulary;
  for (const auto& [piece, id] : small.items()) {
    if (id.get<int64_t>() < 512) vocabulary[piece] = id;  // the bytes
  }
  std::string merges;
  std::string row;
  std::getline(rows, row);
  for (int i = 512; i < 49406 && std::getline(rows, row); ++i) {
    merges += row + "\n";
    vocabulary[row.erase(row.find(' '), 1)] = i;
  }
  vocabulary["<|startoftext|>"] = 49406;
  vocabulary["<|endoftext|>"] = 49407;
  const TemporaryFolder folder;
  folder.write("vocab.json", vocabulary.dump());
  folder.write("merges.txt", merges);
  copy_fixture(folder, "clip", {"tokenizer_config.json"});
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  test::expect_golden(test::read_fixture("shared_clip.json"), tokenizer);
  EXPECT_EQ(tokenizer.encode("a photo of a cat!").ids, (Ids{49406, 320, 1125, 539, 320, 2368, 256, 49407}));
}

// ---- SigLIP ----

std::string as_text(const Ids& ids) {
  std::string text;
  for (const int64_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text;
}

TEST(SiglipTokenizer, AgreesWithTransformersOnFiveThousandLines) {
  const nlohmann::json golden = test::read_fixture("siglip/golden.json");
  const std::vector<std::string>& lines = test::golden_lines();
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/siglip"));
  for (size_t i = 0; i < golden.at("first").size(); ++i) {
    EXPECT_EQ(tokenizer.encode(lines[i]).ids, golden["first"][i].get<Ids>()) << lines[i];
  }
  EXPECT_EQ(test::sums(golden, "ids").size(), 5000u);
  test::expect_sums(golden, "ids", [&](size_t i) { return as_text(tokenizer.encode(lines[i]).ids); });
  test::expect_sums(golden, "cut", [&](size_t i) {
    const int64_t length = test::pair_length(i);
    Ids ids = tokenizer.encode(lines[i], {.max_length = length}).ids;
    ids.resize(static_cast<size_t>(length), tokenizer.pad_id().value());
    return as_text(ids);
  });
  const auto decoded = [&](size_t i) {
    std::string text;
    for (size_t line = i; line < i + test::kDecoded; ++line)
      text += tokenizer.decode(tokenizer.encode(lines[line]).ids) + "\n";
    return text;
  };
  test::expect_sums(golden, "decode", decoded, test::kDecoded);
}

TEST(SiglipTokenizer, LeavesOutPunctuationAndCapitalsAndEndsOnceWithTheEndToken) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/siglip"));
  const auto ids = [&](const char* text) { return tokenizer.encode(text).ids; };
  EXPECT_EQ(tokenizer.pad_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.max_length(), 64);
  EXPECT_TRUE(tokenizer.appends_eos());
  EXPECT_EQ(ids("A photo, of (the) WORLD!"), ids("a  photo of the world"));
  EXPECT_EQ(ids("the world</s>"), ids("the world"));
  EXPECT_EQ(ids("!?"), Ids{1});
  EXPECT_EQ(ids("! the world"), ids("the world"));
  EXPECT_EQ(tokenizer.decode(ids("The  world!")), "the world");
}

TEST(SiglipTokenizer, KeepsCapitalsWhereItIsToldTo) {
  const TemporaryFolder folder;
  copy_fixture(folder, "siglip", {"spiece.model"});
  const auto same = [&](const char* config) {
    folder.write("tokenizer_config.json", config);
    const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
    return tokenizer.encode("The World").ids == tokenizer.encode("the world").ids;
  };
  EXPECT_TRUE(same(R"({"tokenizer_class": "SiglipTokenizer"})"));
  EXPECT_FALSE(same(R"({"tokenizer_class": "SiglipTokenizer", "do_lower_case": false})"));
}

TEST(SiglipTokenizer, ReadsItsModelWhereATokenizerJsonStandsBesideIt) {
  const TemporaryFolder folder;
  copy_fixture(folder, "siglip", {"spiece.model"});
  copy_fixture(folder, "clip", {"tokenizer.json"});
  folder.write("config.json", R"({"model_type": "siglip"})");
  const Tokenizer by_model = Tokenizer::from_folder(folder.path());
  EXPECT_EQ(by_model.files().front().filename(), "spiece.model");
  EXPECT_EQ(by_model.encode("the world").ids,
            Tokenizer::from_folder(fixture("text/fixtures/siglip")).encode("the world").ids);

  folder.write("tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).files().front().filename(), "tokenizer.json");
  std::filesystem::remove(folder.path() / "spiece.model");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "SiglipTokenizer"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path()).files().front().filename(), "tokenizer.json");
}

TEST(SiglipTokenizer, GivesTheSameIdsToPlainTextsAfterSaving) {
  const TemporaryFolder folder;
  Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/siglip"));
  tokenizer.add_tokens({"<|more|>"}, true);
  tokenizer.save(folder.path());
  const std::string saved = read_file(folder.path() / "tokenizer.json");
  EXPECT_EQ(saved.find("\"deltaw_"), std::string::npos);
  EXPECT_EQ(read_json(folder.path() / "tokenizer_config.json").at("tokenizer_class"), "PreTrainedTokenizerFast");
  const Tokenizer again = Tokenizer::from_folder(folder.path());
  for (const char* text : {"A photo of a cat, sitting.", "the\tWORLD", "<|more|>"}) {
    EXPECT_EQ(again.encode(text).ids, tokenizer.encode(text).ids) << text;
  }
  EXPECT_EQ(again.pad_id(), 1);
}

TEST(SiglipTokenizer, NeedsAUnigramModel) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(fixture("text/fixtures/sentencepiece/llama.model"), folder.path() / "spiece.model");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "SiglipTokenizer"})");
  try {
    Tokenizer::from_folder(folder.path());
    ADD_FAILURE() << "a BPE model was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "format.sentencepiece");
    EXPECT_NE(error.parts().what.find("SiglipTokenizer takes a unigram model"), std::string::npos);
  }
}

// ---- SigLIP 2 ----

TEST(Siglip2Tokenizer, IsGemmasInLowerCaseWhereTheModelSaysSo) {
  const TemporaryFolder folder;
  copy_fixture(folder, "gemma", {"tokenizer.json"});
  copy_fixture(folder, "siglip2", {"tokenizer_config.json"});
  const auto model = fixture("text/fixtures/siglip2");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path(), model);
  test::expect_encode_pair_decode(test::read_fixture("siglip2/golden.json"), tokenizer);
  EXPECT_TRUE(tokenizer.pads_left());
  EXPECT_EQ(tokenizer.pad_id(), 0);
  EXPECT_TRUE(tokenizer.prepends_bos());  // as tokenizer.json has it: the flags beside it count for Gemma's class alone
  EXPECT_FALSE(tokenizer.appends_eos());

  // The file that is saved holds the lower case once, and needs no model.
  tokenizer.save(folder.path() / "saved");
  const Json saved = read_json(folder.path() / "saved/tokenizer.json");
  EXPECT_EQ(saved.at("normalizer").at("normalizers").size(), 2u);
  const Tokenizer again = Tokenizer::from_folder(folder.path() / "saved", model);
  EXPECT_EQ(again.encode("The World").ids, tokenizer.encode("the world").ids);
  const Tokenizer alone = Tokenizer::from_folder(folder.path() / "saved");
  EXPECT_EQ(alone.encode("The World").ids, again.encode("the world").ids);
  EXPECT_TRUE(alone.pads_left());

  // Without the model it is Gemma's.
  const Tokenizer gemma = Tokenizer::from_folder(folder.path());
  EXPECT_NE(gemma.encode("The World").ids, gemma.encode("the world").ids);
  EXPECT_TRUE(gemma.appends_eos());
  EXPECT_FALSE(gemma.pads_left());
}

TEST(Siglip2Tokenizer, TakesItsOwnClassAndTheSideThatTheFileNames) {
  const TemporaryFolder folder;
  copy_fixture(folder, "gemma", {"tokenizer.json"});
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "Siglip2Tokenizer", "eos_token": "<eos>",
    "bos_token": "<bos>", "add_bos_token": false, "add_eos_token": true, "padding_side": "right"})");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder.path());
  EXPECT_FALSE(tokenizer.pads_left());
  EXPECT_TRUE(tokenizer.prepends_bos());
  EXPECT_EQ(tokenizer.encode("The World").ids, tokenizer.encode("the world").ids);
}

}  // namespace
}  // namespace deltaw

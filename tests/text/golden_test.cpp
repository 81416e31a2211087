#include "golden.h"

#include <gtest/gtest.h>

#include <thread>

#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;

class Golden : public ::testing::TestWithParam<const char*> {};

TEST_P(Golden, AgreesWithTheReferenceOnFiveThousandLines) {
  const std::string name = GetParam();
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/" + name));
  test::expect_golden(test::read_fixture(name + "/golden.json"), tokenizer);
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, Golden,
                         ::testing::Values("wordpiece", "byte_level", "suffixed", "roberta", "llama3", "llama2",
                                           "gemma", "unigram", "gemma_model", "t5", "albert", "deberta_v2",
                                           "xlm_roberta", "mpnet", "modernbert"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Tokenizer, AgreesWithTheReferenceForEveryOtherPart) {
  std::ifstream in(fixture("text/fixtures/wordpiece/tokenizer.json"));
  const nlohmann::json base = nlohmann::json::parse(in);
  const test::TemporaryFolder folder;
  const nlohmann::json golden = test::read_fixture("variants.json");
  ASSERT_GE(golden.at("variants").size(), 40u);
  for (const nlohmann::json& variant : golden.at("variants")) {
    SCOPED_TRACE(variant.at("name").get<std::string>());
    nlohmann::json file = base;
    for (const auto& [name, part] : variant.at("parts").items()) {
      if (name == "model") {
        file[name].update(part);
      } else {
        file[name] = part;
      }
    }
    const Tokenizer tokenizer = Tokenizer::from_file(folder.write("tokenizer.json", file.dump()));
    test::expect_encode_pair_decode(variant, tokenizer);
  }
}

TEST(Tokenizer, AgreesWithTheReferenceOnBertUncased) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/bert_uncased");
  const nlohmann::json golden = test::read_fixture("shared_bert_uncased.json");
  test::expect_golden(golden, Tokenizer::from_folder(folder));

  const test::TemporaryFolder older;
  older.copy(folder / "vocab.txt");
  const Tokenizer from_vocabulary = Tokenizer::from_folder(older.path());
  test::expect_golden(golden, from_vocabulary);
  EXPECT_EQ(from_vocabulary.pad_id(), 0);
}

TEST(Tokenizer, AgreesWithTheReferenceOnGpt2) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/gpt2");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  test::expect_golden(test::read_fixture("shared_gpt2.json"), tokenizer);
  EXPECT_EQ(tokenizer.vocab_size(), 50257);
  EXPECT_EQ(tokenizer.pad_id(), std::nullopt);
}

TEST(Tokenizer, AgreesWithTheReferenceOnQwen3) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/qwen3");
  const test::TemporaryFolder copy;
  copy.copy(folder / "vocab.json");
  copy.copy(folder / "merges.txt");
  copy.write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  test::expect_golden(test::read_fixture("shared_qwen3.json"), Tokenizer::from_folder(copy.path()));
}

TEST(Tokenizer, AgreesWithTheReferenceOnTheSentencePieceModelOfLlama2) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/llama2");
  const test::TemporaryFolder copy;
  copy.copy(folder / "tokenizer.model");
  const nlohmann::json golden = test::read_fixture("shared_llama2.json");
  test::expect_golden(golden, Tokenizer::from_folder(copy.path()));  // the start token without being asked

  copy.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": true})");
  const Tokenizer tokenizer = Tokenizer::from_folder(copy.path());
  test::expect_golden(golden, tokenizer);
  EXPECT_EQ(tokenizer.vocab_size(), 32000);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_TRUE(tokenizer.prepends_bos());
  EXPECT_FALSE(tokenizer.appends_eos());

  copy.write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_EQ(Tokenizer::from_folder(copy.path()).encode("a").ids, (std::vector<int64_t>{263, 2}));
}

TEST(Tokenizer, AgreesWithTheReferenceOnTheSentencePieceModelOfAlbert) {
  DELTAW_NEEDS_DATA(folder, "tokenizers/albert_spiece");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  test::expect_golden(test::read_fixture("shared_albert.json"), tokenizer);
  EXPECT_EQ(tokenizer.pad_id(), 0);
}

TEST(Tokenizer, AgreesWithTheReferenceOnStories260k) {
  DELTAW_NEEDS_DATA(folder, "models/stories260k_hf");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  test::expect_golden(test::read_fixture("shared_stories260k.json"), tokenizer);
  EXPECT_TRUE(tokenizer.prepends_bos());
}

TEST(Tokenizer, GivesTheSameFromSeveralThreadsAndAfterManyWords) {
  const Tokenizer tokenizer = Tokenizer::from_folder(fixture("text/fixtures/byte_level"));
  const std::vector<std::string> expected = test::sums(test::read_fixture("byte_level/golden.json"), "encode");
  std::vector<int> different(4, -1);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < different.size(); ++t) {
    threads.emplace_back([&, t] {
      int count = 0;
      for (size_t i = t; i < 3 * expected.size(); i += 3) {
        const size_t line = i % expected.size();
        count += test::crc(test::canonical(tokenizer.encode(test::golden_lines()[line]))) != expected[line];
      }
      different[t] = count;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace deltaw

// Entities of tags against seqeval, and entities of texts against transformers' pipeline.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "deltaw/error.h"
#include "support/data.h"
#include "tasks/token_cls/aggregate.h"
#include "tasks/token_cls/entities.h"

namespace deltaw {
namespace {

using namespace token_cls;  // NOLINT: what this file tests
using test::fixture;

Json golden_tags(const std::string& name) {
  std::ifstream in(fixture("golden/token_cls/" + name));
  return Json::parse(in);
}

Tags tags_of(const std::string& text) {
  std::istringstream in(text);
  Tags tags;
  for (std::string tag; in >> tag;) tags.push_back(tag);
  return tags;
}

TEST(EntityScores, AreThoseOfSeqeval) {
  const Json file = golden_tags("tags.json");
  ASSERT_GE(file["cases"].size(), 200u);
  for (const Json& document : file["cases"]) {
    const std::string scheme = document["scheme"].is_null() ? "" : document["scheme"].get<std::string>();
    EntityScores scores(scheme);
    for (size_t i = 0; i < document["labels"].size(); ++i) {
      scores.add(tags_of(document["predicted"][i]), tags_of(document["labels"][i]));
    }
    const Json own = scores.metrics({"precision", "recall", "f1", "f1_macro", "accuracy"});
    const std::string shown = document.dump();
    for (const auto& [name, value] : document["scores"].items()) {
      ASSERT_NEAR(own.at(name).get<double>(), value.get<double>(), 1e-12) << name << " of " << shown;
    }
    const Json types = scores.by_type();
    ASSERT_EQ(types.size(), document["types"].size()) << shown;
    for (const auto& [type, expected] : document["types"].items()) {
      const Json& counted = types.at(type);
      ASSERT_NEAR(counted["precision"].get<double>(), expected[0].get<double>(), 1e-12) << type << " of " << shown;
      ASSERT_NEAR(counted["recall"].get<double>(), expected[1].get<double>(), 1e-12) << type << " of " << shown;
      ASSERT_NEAR(counted["f1"].get<double>(), expected[2].get<double>(), 1e-12) << type << " of " << shown;
      ASSERT_EQ(counted["number"], expected[3]) << type << " of " << shown;
    }
  }
}

TEST(EntityScores, AreOfNothingWhereThereIsNothing) {
  EntityScores scores("");
  EXPECT_EQ(scores.metrics({"f1", "f1_macro", "accuracy"}),
            (Json{{"f1", 0.0}, {"f1_macro", nullptr}, {"accuracy", nullptr}}));
  scores.add({"O"}, {"O"});
  EXPECT_EQ(scores.metrics({"precision", "accuracy"}), (Json{{"precision", 0.0}, {"accuracy", 1.0}}));
}

TEST(Entities, FollowTheSchemeThatIsNamed) {
  const Tags tags = {"I-PER", "I-PER", "B-PER", "O", "I-LOC"};
  const std::vector<Entity> lenient = {{"PER", 0, 2}, {"PER", 2, 3}, {"LOC", 4, 5}};
  EXPECT_EQ(entities_of(tags), lenient);
  EXPECT_EQ(entities_of(tags, "IOB1"), lenient);
  EXPECT_EQ(entities_of(tags, "IOB2"), (std::vector<Entity>{{"PER", 2, 3}}));
  EXPECT_EQ(entities_of({"S-PER", "B-LOC", "E-LOC", "B-LOC", "O"}, "IOBES"),
            (std::vector<Entity>{{"PER", 0, 1}, {"LOC", 1, 3}}));
}

TEST(EntityTags, AreToldFromOthers) {
  EXPECT_TRUE(are_entity_tags({"O", "B-PER", "I-PER"}));
  EXPECT_TRUE(are_entity_tags({"O", "B", "I"}));
  EXPECT_FALSE(are_entity_tags({"NOUN", "VERB"}));
  EXPECT_FALSE(are_entity_tags({"0", "1"}));
  EXPECT_FALSE(are_entity_tags({"O"}));
  EXPECT_EQ(metric_names({"O", "B-X"}), (std::vector<std::string>{"f1", "precision", "recall", "accuracy"}));
  EXPECT_EQ(metric_names({"NOUN", "VERB"}), std::vector<std::string>{"accuracy"});
}

TEST(EntityTags, MustBeOfTheScheme) {
  check_scheme("", {"NOUN"});
  check_scheme("IOBES", {"O", "S-X", "E-X"});
  const auto id_of = [](const std::string& scheme, const Tags& names) -> std::string {
    try {
      check_scheme(scheme, names);
    } catch (const Error& error) {
      return error.id() + " " + error.parts().what;
    }
    return "";
  };
  EXPECT_EQ(id_of("IOB2", {"O", "S-X"}), "config.scheme the label 'S-X' is no tag of IOB2, whose letters are I, O, B");
  EXPECT_EQ(id_of("IOB2", {"O", "BX"}).substr(0, 13), "config.scheme");
  EXPECT_EQ(id_of("IOB3", {"O"}), "config.scheme there is no scheme 'IOB3'");
}

TEST(TokenMetrics, HaveTheNamesOfTheirLabels) {
  token_cls::check_metric("f1_macro", {"O", "B-X"});
  token_cls::check_metric("loss", {"NOUN", "VERB"});
  EXPECT_THROW(token_cls::check_metric("f1", {"NOUN", "VERB"}), Error);
  EXPECT_THROW(token_cls::check_metric("f2", {"O", "B-X"}), Error);
}

// ---- entities of texts ----

/// Whether two lists of entities say the same, scores but for rounding.
std::string differs(const Json& own, const Json& expected, bool of_words) {
  const std::string shown = "\nown " + own.dump() + "\nexpected " + expected.dump();
  if (own.size() != expected.size()) return "other entities" + shown;
  for (size_t i = 0; i < own.size(); ++i) {
    for (const auto& [key, value] : expected[i].items()) {
      if (key == "score" ? std::abs(own[i].at(key).get<double>() - value.get<double>()) > 2e-5
                         : own[i].at(key) != value)
        return key + " of entity " + std::to_string(i) + shown;
    }
    if (own[i].contains("first_word") != of_words) return "words" + shown;
  }
  return "";
}

TEST(Aggregation, IsThatOfThePipeline) {
  const Json file = golden_tags("entities.json");
  const auto labels = file["labels"].get<std::vector<std::string>>();
  ASSERT_GE(file["cases"].size(), 20u);
  std::map<std::string, Tokenizer> tokenizers;
  for (const Json& one : file["cases"]) {
    const auto name = one["tokenizer"].get<std::string>();
    if (!tokenizers.contains(name)) {
      const auto folder = fixture("text/fixtures/" + name);
      const bool whole = std::filesystem::exists(folder / "tokenizer.json");
      tokenizers.emplace(name,
                         whole ? Tokenizer::from_file(folder / "tokenizer.json") : Tokenizer::from_folder(folder));
    }
    const Tokenizer& tokenizer = tokenizers.at(name);
    const data::WordTokenizer split(tokenizer);
    const bool of_words = one["row"].is_array();
    const data::WordTokens row =
        of_words ? split.of_words(one["row"].get<std::vector<std::string>>()) : split.of_text(one["row"]);
    std::vector<float> logits;
    for (const Json& token : one["logits"]) {
      for (const Json& value : token) logits.push_back(value.get<float>());
    }
    ASSERT_EQ(logits.size(), row.ids.size() * labels.size()) << name << " " << one["row"];
    // Where nothing marks what continues a word, the pipeline guesses words by blanks, also where it was given them: it
    // takes a lone blank for one, and joins words without any.
    const bool guesses = name == "unigram";
    for (const std::string& strategy : strategies()) {
      if (guesses && strategy != "none" && strategy != "simple") continue;
      const Json own = Aggregator(tokenizer, labels, strategy).entities(row, logits.data(), split.before());
      EXPECT_EQ(differs(own, one["entities"][strategy], of_words), "")
          << name << ", " << strategy << ", " << one["row"];
    }
  }
}

TEST(Aggregation, KeepsWordsOfARowTogether) {
  const Tokenizer tokenizer = Tokenizer::from_file(fixture("text/fixtures/wordpiece/tokenizer.json"));
  const data::WordTokens row = data::WordTokenizer(tokenizer).of_words({"said", "U.S.", "school"});
  const std::vector<std::string> labels = {"O", "B-LOC"};
  std::vector<float> logits;
  for (const int64_t word : row.words) {
    const bool first = logits.size() / 2 > 0 && word == 1 && row.words[logits.size() / 2 - 1] == 0;
    logits.insert(logits.end(), {0.F, first ? 2.F : -2.F});
  }
  const Json entities = Aggregator(tokenizer, labels, "first").entities(row, logits.data(), 1);
  ASSERT_EQ(entities.size(), 1u);
  EXPECT_EQ(entities[0]["start"], 5);
  EXPECT_EQ(entities[0]["end"], 9);
  EXPECT_EQ(entities[0]["first_word"], 1);
  EXPECT_EQ(entities[0]["last_word"], 1);
}

}  // namespace
}  // namespace deltaw

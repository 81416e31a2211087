// Files of words with tags: lines as of CoNLL, lists of JSON, and what is said where they do not fit together.
#include "data/word_rows.h"

#include "data/files.h"
#include "data/tagged_text.h"
#include "support/data.h"

namespace deltaw {
namespace {

using data::load_word_data;
using data::load_words;
using data::WordData;
using data::WordDataset;
using test::expect_error;
using Strings = std::vector<std::string>;
using Numbers = std::vector<int64_t>;

constexpr const char* kConll =
    "-DOCSTART- -X- -X- O\n\nAnna NNP B-NP B-PER\nsleeps VBZ B-VP O\n\n  \nParis NNP B-NP B-LOC\n# SYM B-NP O\n";
const LabelSet kLabels{.names = {"B-LOC", "B-PER", "O"}};

class TaggedText : public test::Files {};
class WordRows : public test::Files {};

bool says(const Strings& warnings, const std::string& words) {
  for (const std::string& warning : warnings) {
    if (warning.find(words) != std::string::npos) return true;
  }
  return false;
}

std::vector<data::TaggedSentence> sentences(const std::string& text, const data::TaggedColumns& columns = {}) {
  std::vector<data::TaggedSentence> found;
  data::each_tagged_sentence("t.conll", text, columns, [&](data::TaggedSentence&& one) { found.push_back(one); });
  return found;
}

TEST(TaggedSentences, EndAtBlankLinesAndAtDocuments) {
  const auto found = sentences(kConll);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].words, (Strings{"Anna", "sleeps"}));
  EXPECT_EQ(found[0].tags, (Strings{"B-PER", "O"}));
  EXPECT_EQ(found[0].line, 3);
  EXPECT_EQ(found[1].words, (Strings{"Paris", "#"}));  // a word, for it has the fields of one
  EXPECT_EQ(found[1].line, 7);
  EXPECT_EQ(sentences("a O\n-DOCSTART- O\nb O").size(), 2u);
}

TEST(TaggedSentences, AreCutAtTabsWhereTheFirstLineHasSome) {
  const auto found = sentences("New York\tB-LOC\r\n\tO\r\nof\tO \r\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].words, (Strings{"New York", "", "of"}));
  EXPECT_EQ(found[0].tags, (Strings{"B-LOC", "O", "O"}));
}

TEST(TaggedSentences, PassOverComments) {
  const auto found = sentences("# id 59dc domain=en\na _ _ O\n\n# text = b\nb _ _ O\n\n#\nc _ _ O\n");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].words, (Strings{"a"}));
  EXPECT_EQ(found[2].words, (Strings{"c"}));
}

TEST(TaggedSentences, AreReadByTheColumnsThatAreNamed) {
  EXPECT_EQ(sentences("1 a X Y", {.text = "2", .tag = "3"})[0].words, Strings{"a"});
  EXPECT_EQ(sentences("1 a X Y", {.text = "2", .tag = "3"})[0].tags, Strings{"X"});
  const auto named = sentences("number word ner\n1 a X\n", {.text = "word", .tag = "ner"});
  ASSERT_EQ(named.size(), 1u);
  EXPECT_EQ(named[0].words, Strings{"a"});
  EXPECT_EQ(named[0].line, 2);
  expect_error([] { sentences("a O", {.text = "", .tag = "3"}); }, "config.missing-column",
               {"label_column", "2 fields"});
  expect_error([] { sentences("a O", {.text = "0", .tag = ""}); }, "config.missing-column", {"text_column"});
  expect_error([] { sentences("word tag\na O", {.text = "words", .tag = ""}); }, "config.missing-column",
               {"word, tag"});
}

TEST(TaggedSentences, HaveAsManyFieldsInEveryLine) {
  expect_error([] { sentences("a B-X O\nb O\n"); }, "data.field-count", {"t.conll, line 2", "2 fields", "has 3"});
  expect_error([] { sentences("a\nb\n"); }, "data.field-count", {"line 1", "no tag", "'a'"});
  const auto untagged = sentences("a\nb c\n", {.text = "", .tag = "", .tags = false});
  EXPECT_EQ(untagged[0].words, (Strings{"a", "b"}));
  EXPECT_TRUE(untagged[0].tags.empty());
}

TEST(TaggedSentences, AreToldFromPlainText) {
  EXPECT_TRUE(data::looks_tagged("a O\n\nb B-PER\n", kLabels.names));
  EXPECT_FALSE(data::looks_tagged("a O\nHe said no.\n", kLabels.names));
  EXPECT_FALSE(data::looks_tagged("O\n", kLabels.names));
  EXPECT_FALSE(data::looks_tagged("\n", kLabels.names));
}

TEST_F(WordRows, AreColumnsAsTheHubHasThem) {
  const auto file = test::fixture("golden/columns/words.parquet");
  const WordDataset dataset = load_words(file, {}, {.names = {"O", "B-PER", "B-LOC"}}, Labels::needed);
  ASSERT_EQ(dataset.rows.size(), 3u);
  EXPECT_EQ(dataset.rows[0].words, (Strings{"Anna", "lives", "in", "Paris", "."}));
  EXPECT_EQ(dataset.rows[0].labels, (Numbers{1, 0, 0, 2, 0}));
  EXPECT_EQ(dataset.rows[1].id, "1");
  EXPECT_TRUE(dataset.rows[2].words.empty());
  EXPECT_TRUE(says(dataset.warnings, "0 is 'O', 1 is 'B-PER'"));
}

TEST_F(WordRows, TakeLabelsInTheOrderOfTheirCharacters) {
  const WordData data = load_word_data({.train_file = write("t.txt", kConll)}, 1, {});
  EXPECT_EQ(data.labels.names, kLabels.names);
  ASSERT_EQ(data.train.rows.size(), 2u);
  EXPECT_EQ(data.train.rows[0].labels, (Numbers{1, 2}));
  EXPECT_TRUE(data.warnings.empty());
}

TEST_F(WordRows, TakeTheLabelsOfAHeadThatHasThemAll) {
  const HeadLabels head{.names = {"O", "B-PER", "B-LOC", "B-ORG"}, .stored = true};
  const WordData data = load_word_data({.train_file = write("t.conll", kConll)}, 1, head);
  EXPECT_EQ(data.labels.names, head.names);
  EXPECT_EQ(data.train.rows[0].labels, (Numbers{1, 0}));
  expect_error([&] { load_word_data({.train_file = write("u.conll", "a B-PER\nb B-MISC\n")}, 1, head); },
               "config.head-labels", {"B-MISC", "u.conll"});
}

TEST_F(WordRows, ReadListsByTheKeysOfTheRow) {
  const auto file =
      write("t.jsonl",
            "{\"id\": 7, \"tokens\": [\"Anna\", \"sleeps\"], \"pos_tags\": [1, 2], \"ner_tags\": [1, 0]}\n"
            "{\"words\": [\"b\"], \"tags\": [2], \"ner_tags\": null}\n{\"tokens\": [], \"ner_tags\": []}\n");
  const WordData data = load_word_data({.train_file = file, .label_names = {"O", "B-PER", "B-LOC"}}, 1, {});
  ASSERT_EQ(data.train.rows.size(), 3u);
  EXPECT_EQ(data.train.rows[0].words, (Strings{"Anna", "sleeps"}));
  EXPECT_EQ(data.train.rows[0].labels, (Numbers{1, 0}));
  EXPECT_EQ(data.train.rows[0].id, 7);
  EXPECT_EQ(data.train.rows[1].labels, Numbers{2});
  EXPECT_TRUE(data.train.rows[2].words.empty());
  EXPECT_TRUE(says(data.warnings, "taken as class numbers: 0 is 'O', 1 is 'B-PER'"));
  const WordData pos =
      load_word_data({.train_file = write("p.json", "[{\"w\": [\"a\", \"b\"], \"t\": [\"X\", \"Y\"]}]"),
                      .text_column = "w",
                      .label_column = "t"},
                     1, {});
  EXPECT_EQ(pos.labels.names, (Strings{"X", "Y"}));
}

TEST_F(WordRows, SortNumbersThatNobodyNamesByTheirValue) {
  const auto file = write("t.jsonl", "{\"tokens\": [\"a\", \"b\", \"c\"], \"tags\": [10, 9, 0]}\n");
  EXPECT_EQ(load_word_data({.train_file = file}, 1, {}).labels.names, (Strings{"0", "9", "10"}));
}

TEST_F(WordRows, SayWhichWordHasATagOfNoClass) {
  const auto lines = write("dev.conll", "a O\n\nb O\nc B-ORG\n");
  expect_error([&] { load_words(lines, {}, kLabels, Labels::needed); }, "data.unknown-label",
               {"dev.conll, line 4", "B-ORG", "label_names"});
  const auto lists = write("dev.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\", \"B-ORG\"]}\n");
  expect_error([&] { load_words(lists, {}, kLabels, Labels::needed); }, "data.unknown-label",
               {"dev.jsonl, line 1, word 2"});
}

TEST_F(WordRows, RefuseWhatIsNoWords) {
  const auto load = [&](const std::string& name, const std::string& text) {
    const auto file = write(name, text);
    return [file] { load_word_data({.train_file = file}, 1, {}); };
  };
  expect_error(load("a.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"O\", \"O\"]}"), "data.tag-count",
               {"tokens", "tags", "1 and 2"});
  expect_error(load("b.jsonl", "{\"tokens\": \"a b\", \"tags\": [\"O\"]}"), "data.not-words", {"\"tokens\"", "string"});
  expect_error(load("c.jsonl", "{\"tokens\": [1], \"tags\": [\"O\"]}"), "data.not-words", {"word 1"});
  expect_error(load("d.jsonl", "{\"tokens\": [\"a\"], \"tags\": [null]}"), "data.missing-label", {"null", "word 1"});
  expect_error(load("e.jsonl", "{\"tokens\": [\"a\"]}"), "config.missing-column", {"ner_tags", "tokens"});
  expect_error(load("f.jsonl", "{\"text\": \"a\", \"tags\": [\"O\"]}"), "config.missing-column", {"tokens, words"});
  expect_error(load("g.conll", "a O\nb O\n"), "data.one-label", {"'O'"});
  expect_error(load("h.conll", "\n\n"), "data.empty-file", {"no words"});
  expect_error(load("i.csv", "a,O\n"), "config.file-format", {".csv", ".conll"});
  expect_error([&] { load_word_data({.task_name = "rte", .train_file = write("j.conll", kConll)}, 1, {}); },
               "config.unknown-task", {"rte"});
}

TEST_F(WordRows, HoldOutRowsThatAreFoundAgain) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += "w" + std::to_string(i) + (i % 2 ? " O\n\n" : " B-X\n\n");
  const DataOptions options{.train_file = write("t.conll", text), .validation_split = 0.25};
  const WordData data = load_word_data(options, 3, {});
  EXPECT_EQ(data.train.rows.size(), 15u);
  ASSERT_EQ(data.validation.rows.size(), 5u);
  const WordDataset again = data::load_word_split(options, Split::validation, data.labels, Labels::needed, 3);
  ASSERT_EQ(again.rows.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(again.rows[i].words, data.validation.rows[i].words);
}

TEST_F(WordRows, MayBeTextsWhereNobodyAsksForLabels) {
  const auto file = write("t.jsonl", "{\"id\": \"x\", \"text\": \"Anna sleeps\"}\n{\"tokens\": [\"Anna\"]}\n");
  const WordDataset dataset = load_words(file, {}, kLabels, Labels::ignored);
  ASSERT_EQ(dataset.rows.size(), 2u);
  EXPECT_TRUE(dataset.rows[0].is_text);
  EXPECT_EQ(dataset.rows[0].text, "Anna sleeps");
  EXPECT_EQ(dataset.rows[0].id, "x");
  EXPECT_EQ(dataset.rows[1].words, Strings{"Anna"});
  EXPECT_TRUE(dataset.rows[1].labels.empty());
}

TEST_F(WordRows, ReadSeveralFilesOneAfterTheOther) {
  const auto lines = write("a.conll", "a B-PER\n");
  const auto lists = write("b.jsonl", "\n{\"tokens\": [\"b\"], \"tags\": [\"B-MISC\"]}\n");
  expect_error(
      [&] {
        load_words(Strings{lines.string(), lists.string()}, {}, kLabels, Labels::needed);
      },
      "data.unknown-label", {"b.jsonl, line 2, word 1"});
  const DataFiles both = Strings{lists.string(), lines.string()};
  EXPECT_EQ(load_word_data({.train_file = both}, 1, {}).train.rows.size(), 2u);
}

}  // namespace
}  // namespace deltaw

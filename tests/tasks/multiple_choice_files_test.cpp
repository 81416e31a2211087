// Files of questions with choices: the layouts of the data sets that people use, labels, rows that are left out.
#include <gtest/gtest.h>

#include "support/data.h"
#include "support/temporary.h"
#include "tasks/multiple_choice/questions.h"

namespace deltaw {
namespace {

using multiple_choice::ChoiceOptions;
using multiple_choice::ChoiceQuestion;
using multiple_choice::ChoiceSet;
using multiple_choice::load_question_split;
using multiple_choice::load_questions;
using Texts = std::vector<std::string>;

class ChoiceFiles : public testing::Test {
 protected:
  ChoiceSet load(const std::string& name, const std::string& text, Labels use = Labels::needed,
                 const DataOptions& data = {}, const ChoiceOptions& options = {}) {
    return load_questions(test::put(folder / name, text), data, options, use);
  }
  ChoiceQuestion only(const std::string& text, const DataOptions& data = {}, const ChoiceOptions& options = {}) {
    const ChoiceSet set = load("rows.jsonl", text + "\n", Labels::needed, data, options);
    EXPECT_EQ(set.rows.size(), 1u);
    return set.rows.at(0);
  }
  Error error(const std::string& text, const ChoiceOptions& options = {}) {
    return test::error_of([&] { load("rows.jsonl", text, Labels::needed, {}, options); });
  }

  test::TemporaryFolder folder;
};

TEST_F(ChoiceFiles, AreSwagsInColumns) {
  const ChoiceSet set = load("swag.csv",
                             ",video-id,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
                             "0,v,\"Ann, who sings, stands.\",She,gold,sits.,runs.,\"says: \"\"no\"\"\",eats.,2\n"
                             "1,v,It rains.,The street,gold,dries.,is wet.,sings.,flies.,1\n");
  ASSERT_EQ(set.rows.size(), 2u);
  const ChoiceQuestion& first = set.rows[0];
  EXPECT_EQ(first.context, "Ann, who sings, stands.");
  EXPECT_EQ(first.texts, (Texts{"She sits.", "She runs.", "She says: \"no\"", "She eats."}));
  EXPECT_EQ(first.choices[1], "runs.");
  EXPECT_EQ(first.answer, 2);
  EXPECT_EQ(set.rows[1].answer, 1);
  EXPECT_TRUE(set.warnings.empty());
}

TEST_F(ChoiceFiles, AreHellaSwagsWithNumbersAsTexts) {
  const ChoiceQuestion row =
      only(R"({"ind": 4, "activity_label": "x", "ctx_a": "A man sits.", "ctx_b": "he", "ctx": "A man sits. he", )"
           R"("endings": ["a", "b", "c", "d"], "label": "3"})");
  EXPECT_EQ(row.context, "A man sits. he");
  EXPECT_EQ(row.texts, (Texts{"a", "b", "c", "d"}));
  EXPECT_EQ(row.answer, 3);
}

TEST_F(ChoiceFiles, AreThoseOfArcWhoseChoicesHaveNames) {
  const ChoiceSet set = load(
      "arc.jsonl",
      R"({"id": "M1", "question": "Why?", "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": "C"})"
      "\n"
      R"({"id": "M2", "question": "Who?", "choices": {"text": ["d", "e", "f", "g"], "label": ["1", "2", "3", "4"]}, "answerKey": "1"})"
      "\n");
  ASSERT_EQ(set.rows.size(), 2u);
  EXPECT_EQ(set.rows[0].answer, 2);
  EXPECT_EQ(set.rows[1].answer, 0) << "the name, and no number from 0";
  EXPECT_EQ(set.rows[1].texts.size(), 4u);
  EXPECT_EQ(set.rows[0].id, "M1");
  EXPECT_EQ(set.rows[0].name(1), "B");
}

TEST_F(ChoiceFiles, AreTheRawOnesOfTheAllenInstitute) {
  const ChoiceQuestion row =
      only(R"({"id": "7", "question": {"stem": "Why?", "choices": [{"text": "a", "label": "A"}, )"
           R"({"text": "b", "label": "B"}]}, "answerKey": "B"})");
  EXPECT_EQ(row.context, "Why?");
  EXPECT_EQ(row.choices, (Texts{"a", "b"}));
  EXPECT_EQ(row.answer, 1);
}

TEST_F(ChoiceFiles, AreThoseOfOpenBookQaAndCommonsenseQa) {
  const char* const choices = R"("choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"})";
  EXPECT_EQ(only(std::string(R"({"id": "1", "question_stem": "The sun", )") + choices).context, "The sun");
  EXPECT_EQ(only(std::string(R"({"id": "1", "question": "Q", "question_concept": "c", )") + choices).answer, 1);
}

TEST_F(ChoiceFiles, AreThoseOfRaceWhoseQuestionsHaveBlanks) {
  const ChoiceSet set = load(
      "race.jsonl",
      R"({"example_id": "h1", "article": "Ann has a cat.", "question": "The cat is _ .", "options": ["old", "Ann's"], "answer": "B"})"
      "\n"
      R"({"example_id": "h2", "article": "Ann has a cat.", "question": "Who has it?", "options": ["Ann", "Bo"], "answer": "A"})"
      "\n");
  EXPECT_EQ(set.rows[0].context, "Ann has a cat.");
  EXPECT_EQ(set.rows[0].texts, (Texts{"The cat is old .", "The cat is Ann's ."}));
  EXPECT_EQ(set.rows[0].answer, 1);
  EXPECT_EQ(set.rows[1].texts, (Texts{"Who has it? Ann", "Who has it? Bo"}));
  EXPECT_EQ(set.rows[1].answer, 0);
}

TEST_F(ChoiceFiles, AreColumnsAsTheHubHasThem) {
  const ChoiceSet arc = load_questions(test::fixture("golden/columns/choices.parquet"), {}, {}, Labels::needed);
  ASSERT_EQ(arc.rows.size(), 2u);
  EXPECT_EQ(arc.rows[0].context, "What falls from clouds?");
  EXPECT_EQ(arc.rows[0].texts, (Texts{"stone", "rain", "sand"}));
  EXPECT_EQ(arc.rows[0].answer, 1);
  EXPECT_EQ(arc.rows[1].answer, 1) << "the name 2";
  const ChoiceSet endings = load_questions(test::fixture("golden/columns/endings.parquet"), {}, {}, Labels::needed);
  EXPECT_EQ(endings.rows.at(1).context, "Snow falls. the street");
  EXPECT_EQ(endings.rows.at(1).texts[2], "is white.");
  EXPECT_EQ(endings.rows.at(0).answer, 0);
  EXPECT_EQ(endings.rows.at(1).answer, 2);
}

TEST_F(ChoiceFiles, AreOfAnyKeysThatAreNamed) {
  const DataOptions data{.text_column = "story", .text_pair_column = "ask", .label_column = "right"};
  const ChoiceQuestion row = only(R"({"story": "s", "ask": "q", "which": ["x", "y"], "right": 1, "question": "?"})",
                                  data, {.choices_column = "which"});
  EXPECT_EQ(row.context, "s");
  EXPECT_EQ(row.texts, (Texts{"q x", "q y"}));
  EXPECT_EQ(row.answer, 1);
}

TEST_F(ChoiceFiles, HaveAColumnForEachChoiceOrAListInACell) {
  const ChoiceSet columns = load("a.tsv", "question\tA\tB\tC\tanswer\nq\tx\ty\tz\tC\nr\tx\ty\t\tA\n");
  EXPECT_EQ(columns.rows[0].answer, 2);
  EXPECT_EQ(columns.rows[1].choices, (Texts{"x", "y"})) << "a row of fewer choices ends in empty cells";
  const ChoiceSet cells = load("b.csv", "question,choices,label\nq,\"[\"\"x\"\", \"\"y\"\"]\",1\n");
  EXPECT_EQ(cells.rows[0].choices, (Texts{"x", "y"}));
  EXPECT_EQ(cells.rows[0].answer, 1);
}

TEST_F(ChoiceFiles, HaveQuestionsWithoutTheirContext) {
  const ChoiceQuestion row = only(R"({"context": "", "question": "Why?", "choices": ["a", "b"], "label": 0})");
  EXPECT_EQ(row.context, "Why?");
  EXPECT_EQ(row.texts, (Texts{"a", "b"}));
}

TEST_F(ChoiceFiles, TakeTheKeyOfTheSecondTextBesideTheUsualFirstOne) {
  const ChoiceQuestion row =
      only(R"({"context": "c", "ask": "q", "choices": ["a", "b"], "label": 1})", {.text_pair_column = "ask"});
  EXPECT_EQ(row.context, "c");
  EXPECT_EQ(row.texts, (Texts{"q a", "q b"}));
}

// ---- labels ----

std::string options(const std::string& label) {
  return R"({"question": "q", "options": ["2", "x", "0"], "label": )" + label + "}\n";
}

TEST_F(ChoiceFiles, SpellTheirLabelsInOneWay) {
  const auto answers = [&](const std::string& text) {
    std::vector<int64_t> found;
    for (const ChoiceQuestion& row : load("rows.jsonl", text).rows) found.push_back(row.answer);
    return found;
  };
  using Answers = std::vector<int64_t>;
  EXPECT_EQ(answers(options("1") + options("2") + options("0.0")), (Answers{1, 2, 0})) << "numbers";
  EXPECT_EQ(answers(options("\"b\"") + options("\" C \"")), (Answers{1, 2})) << "letters";
  EXPECT_EQ(answers(options("\"x\"") + options("\"2\"")), (Answers{1, 0})) << "texts, of which one is a number";
}

TEST_F(ChoiceFiles, MayCountTheirLabelsFromOne) {
  const ChoiceSet set = load("rows.jsonl", options("1") + options("3") + options("2"));
  EXPECT_EQ(set.rows[0].answer, 0);
  EXPECT_EQ(set.rows[1].answer, 2);
  ASSERT_EQ(set.warnings.size(), 1u);
  EXPECT_NE(set.warnings[0].find("from 1"), std::string::npos);
}

TEST_F(ChoiceFiles, WarnOfLabelsThatCouldMeanAnotherChoice) {
  const auto rows = [](const char* first, const char* second) {
    return std::string("question,option1,option2,answer\nq,x,y,") + first + "\nq,x,y," + second + "\n";
  };
  const ChoiceSet named = load("a.csv", rows("1", "2"));
  EXPECT_EQ(named.rows[0].answer, 0);
  EXPECT_EQ(named.rows[1].answer, 1);
  EXPECT_TRUE(named.warnings.empty());
  const ChoiceSet counted = load("b.csv", rows("0", "1"));
  EXPECT_EQ(counted.rows[0].answer, 0);
  EXPECT_EQ(counted.rows[1].answer, 1);
  EXPECT_TRUE(counted.warnings.empty());
  const ChoiceSet unclear = load("c.csv", rows("1", "1"));
  EXPECT_EQ(unclear.rows[0].answer, 0);
  ASSERT_EQ(unclear.warnings.size(), 1u);
  EXPECT_NE(unclear.warnings[0].find("'1' is taken for the name of a choice"), std::string::npos);
}

TEST_F(ChoiceFiles, NeedNoLabelsToBePredicted) {
  const ChoiceSet set = load("rows.jsonl", R"({"question": "q", "choices": ["a", "b"]})", Labels::ignored);
  EXPECT_EQ(set.rows.at(0).answer, 0);
}

// ---- rows that are wrong ----

TEST_F(ChoiceFiles, LeaveOutRowsThatNothingCanBeLearnedFrom) {
  std::string text;
  for (int i = 0; i < 18; ++i) {
    text += R"({"question": "q", "choices": ["a", "b"], "label": )" + std::to_string(i % 2) + "}\n";
  }
  text += R"({"question": "q", "choices": ["a", "b"], "label": 2})"
          "\n";
  text += R"({"question": "q", "choices": ["a"], "label": 0})"
          "\n";
  const ChoiceSet set = load("rows.jsonl", text);
  EXPECT_EQ(set.rows.size(), 18u);
  EXPECT_EQ(set.left_out, 2);
  EXPECT_EQ(set.reasons,
            (Texts{"line 20: the row has 1 choice", "line 19: the label '2' is none of the row's 2 choices"}));
  EXPECT_EQ(error(text, {.max_bad_rows = 0}).id(), "data.choices");
  EXPECT_EQ(error(text, {.max_bad_rows = 0.05}).id(), "data.choices");
  EXPECT_EQ(test::error_of([&] { load("rows.jsonl", text, Labels::ignored); }).id(), "data.choices");
}

TEST_F(ChoiceFiles, SayWhatIsWrong) {
  const auto id = [&](const std::string& text) { return error(text).id(); };
  EXPECT_EQ(id(R"({"choices": ["a", "b"], "label": 1})"), "config.missing-column");
  EXPECT_EQ(id(R"({"question": "q", "label": 1})"), "config.missing-column");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", "b"]})"), "config.missing-column");
  EXPECT_EQ(id(R"({"question": 3, "choices": ["a", "b"], "label": 1})"), "data.not-text");
  EXPECT_EQ(id(R"({"question": " ", "choices": ["a", "b"], "label": 1})"), "data.empty-text");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", " "], "label": 1})"), "data.choices");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", null], "label": 1})"), "data.choices");
  EXPECT_EQ(id(R"({"question": "q", "choices": "a or b", "label": 1})"), "data.choices");
  EXPECT_EQ(id(R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"})"),
            "data.choices");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", "b"], "label": null})"), "data.missing-label");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", "b"], "label": [1]})"), "data.missing-label");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", "b"], "label": -1})"), "data.unknown-label");
  EXPECT_EQ(id(R"({"question": "q", "choices": ["a", "a"], "label": "a", "x": 0})"), "none") << "a letter";
  EXPECT_EQ(id(R"({"question": "q", "choices": ["dog", "dog"], "label": "dog"})"), "data.unknown-label");
  const Error named =
      error(R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "E"})");
  EXPECT_EQ(named.parts().what, "the label 'E' is none of the row's 2 choices (A, B)");
}

TEST_F(ChoiceFiles, AreSplitAndCutAsOthers) {
  std::string text;
  for (int i = 0; i < 10; ++i) {
    text += R"({"id": )" + std::to_string(i) +
            R"(, "question": "q", "choices": ["a", "b"], "label": 1})"
            "\n";
  }
  const DataOptions data{
      .train_file = test::put(folder / "t.jsonl", text), .validation_split = 0.3, .max_train_samples = 5};
  const ChoiceSet train = load_question_split(data, {}, Split::train, Labels::needed, 1);
  const ChoiceSet held = load_question_split(data, {}, Split::validation, Labels::needed, 1);
  EXPECT_EQ(train.rows.size(), 5u);
  ASSERT_EQ(held.rows.size(), 3u);
  for (const ChoiceQuestion& row : held.rows) {
    for (const ChoiceQuestion& other : train.rows) EXPECT_NE(row.id, other.id);
  }
  EXPECT_EQ(test::error_of([&] { load_question_split(data, {}, Split::test, Labels::ignored, 1); }).id(),
            "config.no-data");
  DataOptions named = data;
  named.task_name = "arc";
  EXPECT_EQ(test::error_of([&] { load_question_split(named, {}, Split::train, Labels::needed, 1); }).id(),
            "config.unknown-task");
}

}  // namespace
}  // namespace deltaw

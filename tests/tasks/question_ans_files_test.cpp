// Files of questions: SQuAD's own and those with a question a row.
#include <gtest/gtest.h>

#include "support/data.h"
#include "support/temporary.h"
#include "tasks/question_ans/questions.h"

namespace deltaw {
namespace {

using question_ans::load_question_split;
using question_ans::load_questions;
using question_ans::QuestionSet;

class QuestionFiles : public testing::Test {
 protected:
  QuestionSet load(const std::string& name, const std::string& text, Labels use = Labels::needed,
                   const DataOptions& options = {}) {
    return load_questions(test::put(folder / name, text), options, use);
  }
  Error error(const std::string& name, const std::string& text) {
    return test::error_of([&] { load(name, text); });
  }

  test::TemporaryFolder folder;
};

const char* const kSquad = R"({"version": "v2.0", "data": [{"title": "x", "paragraphs": [
 {"context": "\u00c9cole is fine.", "qas": [
  {"id": "1", "question": "What?", "answers": [{"text": "fine", "answer_start": 9}, {"text": "is", "answer_start": 6}]},
  {"id": "2", "question": "Who?", "is_impossible": true, "answers": [],
   "plausible_answers": [{"text": "is", "answer_start": 6}]}]},
 {"context": "b", "qas": [{"id": 3, "question": "Q", "answers": [{"text": "b", "answer_start": 0}]}]}]}]})";

void expect_squad(const QuestionSet& set) {
  ASSERT_EQ(set.rows.size(), 3u);
  EXPECT_EQ(set.rows[0].id, "1");
  EXPECT_EQ(set.rows[0].question, "What?");
  EXPECT_EQ(*set.rows[0].context,
            "\xC3\x89"
            "cole is fine.");
  EXPECT_EQ(set.rows[0].context, set.rows[1].context);
  ASSERT_EQ(set.rows[0].answers.size(), 2u);
  EXPECT_EQ(set.rows[0].answers[0].text, "fine");
  EXPECT_EQ(set.rows[0].answers[0].start, 9);
  EXPECT_TRUE(set.rows[1].answers.empty());
  EXPECT_EQ(set.rows[2].id, 3);
  EXPECT_EQ(question_ans::unanswerable(set), 1);
}

TEST_F(QuestionFiles, AreSquadsInOneLineOrSeveral) {
  expect_squad(load("a.json", kSquad));
  std::string line = kSquad;
  std::erase(line, '\n');
  expect_squad(load("b.json", line + "\n"));
  expect_squad(load("c.json", "[" + line.substr(line.find("{\"title\""), line.size() - line.find("{\"title\"") - 1)));
}

TEST_F(QuestionFiles, HaveAQuestionARow) {
  const QuestionSet set =
      load("a.jsonl",
           R"({"id": 7, "question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}}
{"question": "r", "context": "a", "answers": {"text": [], "answer_start": []}}
{"question": "s", "context": "a", "answers": [{"text": "a", "answer_start": 0}]}
)");
  ASSERT_EQ(set.rows.size(), 3u);
  EXPECT_EQ(set.rows[0].id, 7);
  EXPECT_EQ(set.rows[0].answers[0].start, 2);
  EXPECT_TRUE(set.rows[1].id.is_null());
  EXPECT_TRUE(set.rows[1].answers.empty());
  EXPECT_EQ(set.rows[2].answers[0].text, "a");
  const QuestionSet named = load("b.jsonl", R"({"q": "q", "c": "a b", "a": {"text": ["b"], "answer_start": [2]}})",
                                 Labels::needed, {.text_column = "q", .text_pair_column = "c", .label_column = "a"});
  EXPECT_EQ(named.rows[0].answers[0].text, "b");
  EXPECT_EQ(load("c.jsonl", R"({"question": "q", "context": "a"})", Labels::ignored).rows.size(), 1u);
}

TEST_F(QuestionFiles, AreColumnsAsTheHubHasThem) {
  const QuestionSet set = load_questions(test::fixture("golden/columns/questions.parquet"), {}, Labels::needed);
  ASSERT_EQ(set.rows.size(), 2u);
  EXPECT_EQ(set.rows[0].id, "q1");
  EXPECT_EQ(set.rows[0].question, "Who sleeps?");
  ASSERT_EQ(set.rows[0].answers.size(), 2u);
  EXPECT_EQ(set.rows[0].answers[0].start, 4) << "in characters, of which two take two bytes";
  EXPECT_EQ(set.rows[0].answers[1].text, "nna");
  EXPECT_TRUE(set.rows[1].answers.empty());
}

TEST_F(QuestionFiles, HaveTheAnswerWhereTheySay) {
  const Error bytes = error("a.jsonl",
                            "{\"question\": \"q\", \"context\": \"\xC3\x89 b\", \"answers\": "
                            "{\"text\": [\"b\"], \"answer_start\": [3]}}");
  EXPECT_EQ(bytes.id(), "data.answer-place");
  EXPECT_NE(bytes.parts().where.find("a.jsonl, line 1"), std::string::npos) << bytes.parts().where;
  EXPECT_NE(bytes.parts().fix.find("stands at 2"), std::string::npos) << bytes.parts().fix;
  const std::string begin = R"({"question": "q", "context": "a b", "answers": )";
  EXPECT_EQ(error("b.jsonl", begin + R"({"text": ["c"], "answer_start": [0]}})").id(), "data.answer-place");
  EXPECT_EQ(error("c.jsonl", begin + R"({"text": ["a"], "answer_start": [0, 1]}})").id(), "data.answers");
  EXPECT_EQ(error("d.jsonl", begin + R"({"text": ["a"], "answer_start": [-1]}})").id(), "data.answers");
  EXPECT_EQ(error("e.jsonl", begin + R"({"text": ["a"], "answer_start": ["0"]}})").id(), "data.answers");
  EXPECT_EQ(error("f.jsonl", begin + R"({"text": [""], "answer_start": [0]}})").id(), "data.answers");
  EXPECT_EQ(error("g.jsonl", begin + R"("a"})").id(), "data.answers");
  EXPECT_EQ(error("h.jsonl", begin + R"(["a"]})").id(), "data.answers");
}

TEST_F(QuestionFiles, AreRefusedWithThePlace) {
  const Error paragraph = error("a.json", R"({"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1}]}]}]})");
  EXPECT_EQ(paragraph.id(), "config.missing-column");
  EXPECT_NE(paragraph.parts().where.find("article 1, paragraph 1, question 1"), std::string::npos);
  EXPECT_EQ(error("b.jsonl", R"({"question": "q", "context": "a"})").id(), "config.missing-column");
  EXPECT_EQ(error("c.jsonl", R"({"question": "q", "answers": []})").id(), "config.missing-column");
  EXPECT_EQ(error("d.jsonl", R"({"question": " ", "context": "a", "answers": []})").id(), "data.empty-text");
  EXPECT_EQ(error("e.json", R"({"data": []})").id(), "data.empty-file");
  EXPECT_EQ(error("f.json", R"({"data": ["x"]})").id(), "data.answers");
  EXPECT_EQ(error("g.txt", "q").id(), "config.file-format");
}

TEST_F(QuestionFiles, AreHeldOut) {
  std::string text;
  for (int i = 0; i < 10; ++i) {
    text += "{\"id\": " + std::to_string(i) + ", \"question\": \"q\", \"context\": \"a\", \"answers\": []}\n";
  }
  DataOptions options{.train_file = test::put(folder / "t.jsonl", text), .validation_split = 0.3};
  std::vector<int> ids;
  for (const Split split : {Split::train, Split::validation}) {
    const QuestionSet set = load_question_split(options, split, Labels::needed, 1);
    EXPECT_EQ(set.rows.size(), split == Split::train ? 7u : 3u);
    std::vector<int> own;
    for (const auto& row : set.rows) own.push_back(row.id.get<int>());
    EXPECT_TRUE(std::is_sorted(own.begin(), own.end()));
    ids.insert(ids.end(), own.begin(), own.end());
  }
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(ids, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  options.max_train_samples = 2;
  EXPECT_EQ(load_question_split(options, Split::train, Labels::needed, 1).rows.size(), 2u);
  options.task_name = "squad";
  EXPECT_EQ(test::error_of([&] { load_question_split(options, Split::train, Labels::needed, 1); }).id(),
            "config.unknown-task");
}

}  // namespace
}  // namespace deltaw

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/answer_rules.h"
#include "eval/counting_model.h"

namespace deltaw {
namespace {

using eval::find_answer;
using eval::flexible_number;
using eval::is_right;
using eval::same_number;
using eval::strict_number;
using test::Counting;
using test::error_of;

TextTask task_of(AnswerKind kind, std::vector<std::string> answers = {}, std::string name = "task") {
  TextTask task;
  task.name = std::move(name);
  task.kind = kind;
  task.answers = std::move(answers);
  return task;
}

const TextTask kWord = task_of(AnswerKind::word, {"answer1", "answer2", "answer3"});
const TextTask kLetter = task_of(AnswerKind::letter);
const TextTask kNumber = task_of(AnswerKind::number);

TEST(FindAnswer, TakesTheFirstWordOfTheTask) {
  EXPECT_EQ(find_answer(kWord, "the correct answer is answer2, not answer1"), "answer2");
  EXPECT_EQ(find_answer(kWord, "answer3answer1"), "answer3");
  EXPECT_EQ(find_answer(kWord, "answer4 or Answer1"), "");
  const TextTask mixed = task_of(AnswerKind::word);  // lists none: those of all tasks
  EXPECT_EQ(find_answer(mixed, "it is option2"), "option2");
  EXPECT_EQ(find_answer(mixed, "true, not false"), "true");
}

TEST(FindAnswer, TakesTheFirstLetter) {
  EXPECT_EQ(find_answer(kLetter, "\nthe answer is (D). Among A"), "D");
  EXPECT_EQ(find_answer(kLetter, "F or abcde"), "");
  EXPECT_TRUE(is_right(kLetter, "D", "D"));
  EXPECT_FALSE(is_right(kLetter, "", "D"));
}

TEST(FindAnswer, TakesTheLastNumber) {
  EXPECT_EQ(find_answer(kNumber, "24 * 2/3 = 16. The answer is 1,024."), "1024.");
  EXPECT_EQ(find_answer(kNumber, "3-4"), "-4");
  EXPECT_EQ(find_answer(kNumber, "it is $-12.50 - no"), "-12.50");
  EXPECT_EQ(find_answer(kNumber, "1.2.3"), "3");
  EXPECT_EQ(find_answer(kNumber, ".5"), "5");
  EXPECT_EQ(find_answer(kNumber, "-- none --"), "");
}

TEST(IsRight, ComparesNumbersWithinAThousandth) {
  EXPECT_TRUE(is_right(kNumber, "576", "576.0"));
  EXPECT_TRUE(is_right(kNumber, "576.", "576"));
  EXPECT_TRUE(is_right(kNumber, "1.833", "1.8333333333333335"));
  EXPECT_FALSE(is_right(kNumber, "1.83", "1.8333333333333335"));
  EXPECT_FALSE(is_right(kNumber, "-576", "576"));
  EXPECT_FALSE(is_right(kNumber, "", "0"));
  EXPECT_FALSE(is_right(kNumber, std::string(400, '9'), "9"));  // beyond what a number holds
}

TEST(StrictNumber, StandsBehindTheMark) {
  EXPECT_EQ(strict_number("so 9 * 2 = $18\n#### 18\n\nQ 5"), "18");
  EXPECT_EQ(strict_number("#### -1,234.50 dollars #### 7"), "-1,234.50");
  EXPECT_EQ(strict_number("#### about #### 7"), "7");
  EXPECT_EQ(strict_number("#### $18"), "");
  EXPECT_EQ(strict_number("####18"), "");
  EXPECT_EQ(strict_number("the answer is 18"), "");
}

TEST(FlexibleNumber, IsTheLastOne) {
  EXPECT_EQ(flexible_number("She makes 9 * 2 = $18 a day"), "$18");
  EXPECT_EQ(flexible_number("it is -7"), "-7");
  EXPECT_EQ(flexible_number("5 - 3"), "3");
  EXPECT_EQ(flexible_number("the answer is 1,234.50."), "1,234.50.");
  EXPECT_EQ(flexible_number("18 of them..."), "...");  // the harness' expression takes that too
  EXPECT_EQ(flexible_number("no. number, $ at - all"), "");
}

TEST(SameNumber, IgnoresCommasDollarsAndAFullStop) {
  EXPECT_TRUE(same_number("$1,234.", "1234"));
  EXPECT_TRUE(same_number("18", "18"));
  EXPECT_FALSE(same_number("18.0", "18"));
  EXPECT_FALSE(same_number("18..", "18"));
  EXPECT_FALSE(same_number("", ""));
}

// A model that says after "ask<word>" what it is asked for, and then stops.
struct Answering : Counting {
  Answering() : Counting({"please", "ask1", "ask2", "ask7", "answer1", "answer2", "7", "and"}, 300) {
    const std::map<std::string, std::string> answers = {{"ask1", "answer1"}, {"ask2", "answer2"}, {"ask7", "7"}};
    for (const auto& [asked, said] : answers) {
      say(asked, said, 50);
      say(said, "[SEP]", 100);  // its end token
    }
  }
};

TEST(GenerateAnswers, SaysFindsAndCompares) {
  const Answering model;
  const std::vector<AnswerResult> results = generate_answers(
      model.lm(2), kWord, {{"please ask2", "answer2", 1}, {"ask1", "answer2", 2}, {"ask7", "answer1", 3}});
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].text, "answer2");
  EXPECT_EQ(results[0].found, "answer2");
  EXPECT_TRUE(results[0].right);
  EXPECT_EQ(results[1].found, "answer1");
  EXPECT_FALSE(results[1].right);
  EXPECT_EQ(results[2].found, "");
  EXPECT_FALSE(results[2].right);
  EXPECT_FALSE(results[0].truncated);
}

TEST(GenerateAnswers, EndsAfterAsManyTokensAsTheKindOfAnswerNeeds) {
  Answering model;
  model.say("ask1", "and", 900);  // goes on for ever
  const auto tokens = [&](const TextTask& task, int64_t most) {
    const std::string text = generate_answers(model.lm(), task, {{"ask1", "answer1", 1}}, most)[0].text;
    return 1 + std::count(text.begin(), text.end(), ' ');
  };
  EXPECT_EQ(tokens(kWord, 0), 32);
  EXPECT_EQ(tokens(kNumber, 0), 256);
  EXPECT_EQ(tokens(kWord, 5), 5);
}

TEST(GenerateAnswers, CutsThePromptToLeaveRoom) {
  const Answering model;
  std::string prompt = "ask1";
  for (int i = 0; i < 300; ++i) prompt += " please";
  const std::vector<AnswerResult> results =
      generate_answers(model.lm(), kWord, {{prompt, "answer1", 1}, {prompt + " ask2", "answer2", 2}});
  EXPECT_TRUE(results[0].truncated);
  EXPECT_FALSE(results[0].right) << "what was asked is gone";
  EXPECT_TRUE(results[1].truncated);
  EXPECT_TRUE(results[1].right);
  EXPECT_EQ(error_of([&] { generate_answers(model.lm(), kWord, {}, 300); }).id(), "config.out-of-range");
}

TEST(ScoreAnswers, IsTheShareOfRightOnes) {
  const Answering model;
  const Json scores = score_answers(
      model.lm(), kNumber, {{"ask7", "7.0", 1}, {"please ask7", "7", 2}, {"ask7", "8", 3}, {"ask7", "7.0005", 4}});
  EXPECT_EQ(scores["eval_exact_match"], 0.75);
  EXPECT_NEAR(scores["eval_exact_match_stderr"].get<double>(), std::sqrt(0.75 * 0.25 / 3), 1e-12);
  EXPECT_EQ(scores["eval_samples"], 4);
  EXPECT_EQ(scores["eval_truncated"], 0);
  EXPECT_FALSE(scores.contains("eval_exact_match_strict"));
  EXPECT_EQ(error_of([&] { score_answers(model.lm(), kNumber, {}); }).id(), "data.empty-file");
}

TEST(ScoreAnswers, OfGsm8kComparesTextToo) {
  const Answering model;
  const TextTask gsm8k = task_of(AnswerKind::number, {}, "gsm8k");
  const Json scores = score_answers(model.lm(), gsm8k, {{"Question: ask7", "7.0", 1}, {"ask7", "7.0005", 2}});
  EXPECT_EQ(scores["eval_exact_match"], 1.0);
  EXPECT_EQ(scores["eval_exact_match_flexible"], 0.5);
  EXPECT_EQ(scores["eval_exact_match_strict"], 0.0);  // it writes no mark
}

}  // namespace
}  // namespace deltaw

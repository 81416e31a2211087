// The sets that are known by name, on rows written here and on the real files with a real tokenizer.
#include "data/bytes.h"
#include "data/files.h"
#include "support/data.h"

namespace deltaw {
namespace {

using test::expect_error;

class TextTasks : public test::Files {
 protected:
  std::vector<ChoiceExample> choices(const std::string& task, const std::string& instruction,
                                     const std::string& answer) const {
    const Json row = {{"instruction", instruction}, {"input", ""}, {"output", ""}, {"answer", answer}};
    return load_choices(*find_text_task(task), write("test.json", Json::array({row}).dump()));
  }
  std::vector<AnswerExample> answers(const std::string& task, const Json& row) const {
    return load_answers(*find_text_task(task), write("test.json", Json::array({row}).dump()));
  }
};

TEST_F(TextTasks, AreFoundByAnySpelling) {
  EXPECT_EQ(find_text_task("ARC-Easy")->name, "arc_easy");
  EXPECT_EQ(find_text_task("social_iqa")->name, "social_i_qa");
  EXPECT_EQ(find_text_task("rte"), nullptr);
}

TEST_F(TextTasks, ChoicesAreTakenOutOfAnInstruction) {
  const auto arc = choices("arc_easy",
                           "Please choose the correct answer to the question: What is: hot?\n\nAnswer1: ice Answer2: "
                           "the sun Answer3: rain\n\nAnswer format: answer1/answer2/answer3",
                           "answer2");
  ASSERT_EQ(arc.size(), 1u);
  ASSERT_EQ(arc[0].choices.size(), 3u);
  EXPECT_EQ(arc[0].answer, 1);
  EXPECT_EQ(arc[0].choices[0].context, "Question: What is: hot?\nAnswer:");
  EXPECT_EQ(arc[0].choices[1].continuation, " the sun");
  EXPECT_EQ(arc[0].choices[2].continuation, " rain");
}

TEST_F(TextTasks, ABlankIsFilled) {
  const auto row = choices("winogrande",
                           "Please choose the correct answer to fill in the blank to complete the given sentence: Ann "
                           "was better than Eva so _ won.\n\nOption1: Ann Option2: Eva Answer format: option1/option2",
                           "option1");
  EXPECT_EQ(row[0].choices[1].context, "Ann was better than Eva so Eva");
  EXPECT_EQ(row[0].choices[1].continuation, " won.");
  EXPECT_EQ(row[0].answer, 0);
}

TEST_F(TextTasks, YesAndNoStandForTrueAndFalse) {
  const auto row = choices("boolq",
                           "Please answer the following question with true or false, question: is ice hot?\n\nAnswer "
                           "format: true/false",
                           "false");
  EXPECT_EQ(row[0].choices[0].context, "Question: is ice hot?\nAnswer:");
  EXPECT_EQ(row[0].choices[row[0].answer == 1].continuation, " no");
}

TEST_F(TextTasks, AQuestionWithoutItsMarkGetsOne) {
  const auto row = choices("boolq",
                           "Please answer the following question with true or false, question: is ice hot\n\nAnswer "
                           "format: true/false",
                           "false");
  EXPECT_EQ(row[0].choices[0].context, "Question: is ice hot?\nAnswer:");
}

TEST_F(TextTasks, RowsThatCannotBeTakenApartAreRefused) {
  expect_error([&] { choices("piqa", "What now?", "solution1"); }, "data.choices", {"item 1", "Answer format"});
  expect_error([&] { choices("piqa", "So: x Solution1: a\nAnswer format: b", "solution2"); }, "data.choices",
               {"solution2", "1 choices"});
  expect_error([&] { choices("piqa", "So: x Solution1: a Solution2: b Answer format: b", "answer1"); }, "data.answer",
               {"answer1", "solution1, solution2"});
  expect_error([&] { choices("winogrande", "So: x Option1: a Option2: b Answer format: b", "option1"); },
               "data.choices", {"no blank"});
  expect_error([&] { choices("gsm8k", "x", "1"); }, "config.task-kind", {"gsm8k"});
}

TEST_F(TextTasks, AnswersAreReadAsTheirTaskTellsThem) {
  const auto own = answers("gsm8k", {{"question", "2+2?"}, {"answer", "It is 1,004.\n#### 1,004"}});
  EXPECT_EQ(own[0].prompt, "Question: 2+2?\nAnswer:");
  EXPECT_EQ(own[0].answer, "1004");
  const auto adapters = answers("gsm8k", {{"instruction", "2+2?"}, {"input", ""}, {"output", ""}, {"answer", "4.0"}});
  EXPECT_EQ(adapters[0].prompt, alpaca_prompt("2+2?"));
  EXPECT_EQ(adapters[0].answer, "4.0");
  EXPECT_EQ(answers("aqua", {{"instruction", "x"}, {"answer", "C"}})[0].answer, "C");
  expect_error([&] { answers("aqua", {{"instruction", "x"}, {"answer", "F"}}); }, "data.answer", {"'F'", "A to E"});
  expect_error([&] { answers("svamp", {{"instruction", "x"}, {"answer", "four"}}); }, "data.answer", {"'four'"});
  expect_error([&] { answers("svamp", {{"instruction", "x"}}); }, "data.not-text", {"answer", "missing"});
}

struct Expected {
  const char* task;
  size_t train;  // 0: no such file here
  size_t test;
  size_t fewest;  // choices of a row; 0: its answers are not words
  size_t most;
};

class RealTasks : public ::testing::TestWithParam<Expected> {};

TEST_P(RealTasks, HaveEveryRow) {
  DELTAW_NEEDS_DATA(folder, "llm_adapters");
  const Expected& expected = GetParam();
  const TextTask& task = *find_text_task(expected.task);
  const DataOptions options{.task_name = expected.task, .dataset_dir = folder.string()};
  if (expected.train > 0) {
    EXPECT_EQ(load_text_data(options, {}, {}, 1).train.rows.size(), expected.train);
  }
  if (expected.test == 0) return;
  const auto file = text_split_file(options, Split::test);
  ASSERT_TRUE(file);
  const auto answers = load_answers(task, *file);
  EXPECT_EQ(answers.size(), expected.test);
  for (const AnswerExample& example : answers) ASSERT_TRUE(example.prompt.ends_with("### Response:\n"));
  if (expected.fewest == 0) return;
  const auto choices = load_choices(task, *file);
  ASSERT_EQ(choices.size(), expected.test);
  for (size_t i = 0; i < choices.size(); ++i) {
    const ChoiceExample& example = choices[i];
    ASSERT_GE(example.choices.size(), expected.fewest) << example.line;
    ASSERT_LE(example.choices.size(), expected.most) << example.line;
    EXPECT_EQ(answers[i].answer, task.answers.at(static_cast<size_t>(example.answer)));
    for (const Choice& choice : example.choices) {
      ASSERT_GT(choice.continuation.size(), 1u) << "item " << example.line;
      ASSERT_EQ(choice.context.find("Answer format"), std::string::npos);
      ASSERT_EQ(choice.continuation.find("format:"), std::string::npos) << "item " << example.line;
      ASSERT_EQ(choice.context.find("Please choose"), std::string::npos);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(LlmAdapters, RealTasks,
                         ::testing::Values(Expected{"boolq", 9427, 3270, 2, 2}, Expected{"piqa", 0, 1838, 2, 2},
                                           Expected{"social_i_qa", 0, 1954, 3, 3},
                                           Expected{"winogrande", 0, 1267, 2, 2},
                                           Expected{"arc_easy", 2251, 2376, 3, 5},
                                           Expected{"arc_challenge", 1119, 1172, 3, 5},
                                           Expected{"openbookqa", 4957, 500, 4, 4}, Expected{"gsm8k", 0, 1319, 0, 0},
                                           Expected{"addsub", 0, 395, 0, 0}, Expected{"multiarith", 0, 600, 0, 0},
                                           Expected{"singleeq", 0, 508, 0, 0}, Expected{"svamp", 0, 1000, 0, 0},
                                           Expected{"mawps", 0, 238, 0, 0}, Expected{"aqua", 0, 254, 0, 0}),
                         [](const auto& info) { return std::string(info.param.task); });

TEST(RealTraining, HolesOfAPublishedFileAreCounted) {
  DELTAW_NEEDS_DATA(folder, "llm_adapters");
  const DataOptions named{.task_name = "math_data", .dataset_dir = folder.string()};
  const TextDataset train = load_text_data(named, {}, {}, 1).train;
  EXPECT_EQ(train.left_out, 3);
  EXPECT_EQ(train.rows.size(), 3257u);
  expect_error([&] { load_text_data(named, {.max_bad_rows = 0}, {}, 1); }, "data.empty-text",
               {"math_data.json, item 176", "output"});
}

class RealTexts : public test::Files {};

constexpr int64_t kGpt2End = 50256;

TEST_F(RealTexts, Gsm8kTrainsItsAnswersAndNothingElse) {
  DELTAW_NEEDS_DATA(folder, "gsm8k");
  DELTAW_NEEDS_DATA(gpt2, "tokenizers/gpt2");
  const Tokenizer tokenizer = Tokenizer::from_folder(gpt2);
  const DataOptions options{.task_name = "gsm8k", .dataset_dir = folder.string(), .max_train_samples = 500};
  const TextData data = load_text_data(options, {}, {}, 1);
  const EncodedTexts texts = encode_texts(data.train, tokenizer, 1024, kGpt2End);
  ASSERT_EQ(texts.rows.size(), 500u);
  for (size_t i = 0; i < texts.rows.size(); ++i) {
    const TextExample& example = data.train.rows[i];
    const auto [begin, end] = example.trained.at(0);
    ASSERT_EQ(test::trained_text(texts.rows[i], tokenizer), example.text.substr(begin, end - begin) + "<|endoftext|>");
  }
  EXPECT_EQ(load_answers(*find_text_task("gsm8k"), *text_split_file(options, Split::test)).size(), 1319u);
}

TEST_F(RealTexts, PackedCommonsenseKeepsEveryTrainedToken) {
  DELTAW_NEEDS_DATA(folder, "llm_adapters");
  DELTAW_NEEDS_DATA(gpt2, "tokenizers/gpt2");
  const Tokenizer tokenizer = Tokenizer::from_folder(gpt2);
  const DataOptions options{.task_name = "arc_challenge", .dataset_dir = folder.string()};
  const EncodedTexts texts = encode_texts(load_text_data(options, {}, {}, 1).train, tokenizer, 512, kGpt2End);
  for (const EncodedRow& row : texts.rows) {
    const std::string answer = test::trained_text(row, tokenizer);
    ASSERT_TRUE(answer.starts_with("the correct answer is answer")) << answer;
    ASSERT_TRUE(answer.ends_with("<|endoftext|>")) << answer;
  }
  int64_t trained = 0;
  int64_t tokens = 0;
  const std::vector<EncodedRow> packed = pack_rows(texts.rows, 512);
  for (const EncodedRow& row : packed) {
    tokens += static_cast<int64_t>(row.ids.size());
    for (const int64_t label : row.token_labels) trained += label != kNoLabel;
  }
  EXPECT_EQ(trained, texts.facts.trained);
  EXPECT_EQ(tokens, texts.facts.tokens);
  EXPECT_GT(static_cast<double>(tokens) / static_cast<double>(packed.size() * 512),
            0.9);  // no row is shorter than its prompt
}

TEST_F(RealTexts, ShakespeareComesBackFromItsBlocks) {
  DELTAW_NEEDS_DATA(file, "tinyshakespeare/input.txt");
  DELTAW_NEEDS_DATA(gpt2, "tokenizers/gpt2");
  const Tokenizer tokenizer = Tokenizer::from_folder(gpt2);
  const DataOptions options{.train_file = file.string(), .validation_split = 0.1};
  const TextData data = load_text_data(options, {}, {}, 1);
  EXPECT_EQ(data.train.rows[0].text.size() + data.validation.rows[0].text.size(), std::filesystem::file_size(file));
  const EncodedTexts texts = encode_texts(data.validation, tokenizer, 256, std::nullopt);
  std::vector<int64_t> ids;
  for (const EncodedRow& row : texts.rows) ids.insert(ids.end(), row.ids.begin(), row.ids.end());
  EXPECT_EQ(tokenizer.decode(ids), data.validation.rows[0].text);
  EXPECT_EQ(texts.facts.trained, texts.facts.tokens - texts.facts.rows);
  std::string shown;
  for (const SampleToken& token : describe_row(texts.rows[0], tokenizer)) shown += token.text;
  EXPECT_EQ(shown, tokenizer.decode(texts.rows[0].ids));
}

}  // namespace
}  // namespace deltaw

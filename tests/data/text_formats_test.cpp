// Every kind of row, and every way to get one wrong.
#include <algorithm>

#include "data/text_formats.h"

namespace deltaw {
namespace {

using test::expect_error;
using test::TextFormats;
using test::trained;

TEST_F(TextFormats, TextIsADocumentThatEnds) {
  const TextDataset dataset = load("rows.jsonl", "{\"text\": \"one\", \"id\": 7}\n\n{\"text\": \"two\"}\n");
  ASSERT_EQ(dataset.rows.size(), 2u);
  EXPECT_FALSE(dataset.continuous);
  EXPECT_EQ(dataset.rows[1].text, "two");
  EXPECT_EQ(trained(dataset.rows[1]), "two");
  EXPECT_EQ(dataset.rows[1].line, 3);
  EXPECT_TRUE(dataset.rows[1].end);
  EXPECT_TRUE(dataset.rows[1].add_special_tokens);
  EXPECT_FALSE(dataset.rows[1].answers);
}

TEST_F(TextFormats, AnArrayCountsItems) {
  const TextDataset dataset = load("rows.json", R"([{"text": "one"}, {"text": "two"}])");
  EXPECT_EQ(dataset.unit, "item");
  EXPECT_EQ(dataset.rows.at(1).line, 2);
}

TEST_F(TextFormats, PromptAndCompletionTrainTheCompletion) {
  const TextExample row = only(R"({"prompt": "2+2=", "completion": " 4"})");
  EXPECT_EQ(row.text, "2+2= 4");
  EXPECT_EQ(trained(row), " 4");
  EXPECT_TRUE(row.end);
  EXPECT_TRUE(row.answers);
  EXPECT_EQ(trained(only(R"({"prompt": "", "completion": "4"})")), "4");
  TextOptions all;
  all.completion_only_loss = false;
  EXPECT_EQ(trained(only(R"({"prompt": "2+2=", "completion": " 4"})", test::render_turns, all)), "2+2= 4");
}

TEST_F(TextFormats, InstructionsAreWordedAsAlpacaWordsThem) {
  const TextExample bare = only(R"({"instruction": "Add.", "input": "", "output": "4", "answer": "4"})");
  EXPECT_EQ(bare.text,
            "Below is an instruction that describes a task. Write a response that appropriately completes the "
            "request.\n\n### Instruction:\nAdd.\n\n### Response:\n4");
  EXPECT_EQ(trained(bare), "4");
  const TextExample input = only(R"({"instruction": "Add.", "input": "2 2", "output": "4"})");
  EXPECT_EQ(input.text,
            "Below is an instruction that describes a task, paired with an input that provides further context. Write "
            "a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n2 2\n\n### "
            "Response:\n4");
  EXPECT_EQ(trained(input), "4");
}

TEST_F(TextFormats, PromptsAndAnswersAreTurnsOfAConversationWhereThatIsAskedFor) {
  const TextOptions turns{.as_conversation = true};
  const auto same = [&](std::string_view pair, std::string_view messages) {
    const TextExample row = only(pair, test::render_turns, turns);
    const TextExample wanted = only(messages);
    EXPECT_EQ(row.text, wanted.text);
    EXPECT_EQ(row.trained, wanted.trained);
    EXPECT_EQ(row.end, wanted.end);
    EXPECT_EQ(row.add_special_tokens, wanted.add_special_tokens);
  };
  const char* plain = R"({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]})";
  same(R"({"prompt": "2+2?", "completion": "4", "history": 3})", plain);
  same(R"({"question": "2+2?", "answer": "4"})", plain);
  same(R"({"instruction": "2+2?", "input": "", "output": "4"})", plain);
  same(R"({"instruction": "Add.", "input": "2 2", "output": "4", "system": "Be brief.", "history": [["Hi", "Ho"]]})",
       R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},)"
       R"( {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Add.\n2 2"},)"
       R"( {"role": "assistant", "content": "4"}]})");
  EXPECT_EQ(only(R"({"text": "one"})", test::render_turns, turns).text, "one");
}

TEST_F(TextFormats, QuestionsHaveTheirPrompt) {
  const TextExample row = only(R"({"question": "2+2?", "answer": "It is 4.\n#### 4"})");
  EXPECT_EQ(row.text, "Question: 2+2?\nAnswer: It is 4.\n#### 4");
  EXPECT_EQ(trained(row), " It is 4.\n#### 4");
}

TEST_F(TextFormats, TablesHoldRowsToo) {
  const TextDataset dataset = load("rows.csv", "prompt,completion\n\"a, b\",c\n");
  EXPECT_EQ(dataset.rows.at(0).text, "a, bc");
  EXPECT_EQ(trained(dataset.rows.at(0)), "c");
}

TEST_F(TextFormats, ColumnsMayHaveOtherNames) {
  const char* rows = R"({"q": "a", "a": "b"})";
  const DataOptions both{.text_column = "q", .label_column = "a"};
  EXPECT_EQ(trained(load("rows.jsonl", rows, {}, {}, both).rows.at(0)), "b");
  const DataOptions one{.text_column = "q"};
  EXPECT_EQ(trained(load("rows.jsonl", rows, {}, {}, one).rows.at(0)), "a");
  const DataOptions wrong{.text_column = "z"};
  expect_error([&] { load("rows.jsonl", rows, {}, {}, wrong); }, "config.missing-column", {"text_column", "q, a"});
  const DataOptions chat{.text_column = "turns"};
  const char* turns = R"({"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  EXPECT_EQ(trained(load("rows.jsonl", turns, test::render_turns, {}, chat).rows.at(0)), "b<turn>\n");
}

TEST_F(TextFormats, AlpacaMayHaveASystemAndAHistory) {
  const TextExample row = only(
      R"({"instruction": "c", "input": "i", "output": "d", "system": "Be brief.", "history": [["a", "b"], ["e", "f"]]})");
  EXPECT_EQ(row.text,
            "Be brief.\n\n### Instruction:\na\n\n### Response:\nb\n\n### Instruction:\ne\n\n### Response:\nf\n\n"
            "### Instruction:\nc\n\n### Input:\ni\n\n### Response:\nd");
  EXPECT_EQ(trained(row), "b|f|d");
  ASSERT_EQ(row.ends.size(), 2u);
  EXPECT_TRUE(row.text.substr(0, row.ends[0]).ends_with("Response:\nb"));
  EXPECT_TRUE(row.end);
  TextOptions all;
  all.completion_only_loss = false;
  EXPECT_EQ(trained(only(R"({"instruction": "c", "output": "d", "history": [["a", "b"]]})", {}, all)),
            only(R"({"instruction": "c", "output": "d", "history": [["a", "b"]]})").text);
  const std::string bare = only(R"({"instruction": "c", "output": "d"})").text;
  for (const char* rest : {R"("system": null, "history": null)", R"("system": "", "history": [])",
                           R"("system": " ", "history": "", "input": null)"}) {
    EXPECT_EQ(only(std::string(R"({"instruction": "c", "output": "d", )") + rest + "}").text, bare) << rest;
  }
  EXPECT_EQ(load("rows.csv", "instruction,output,history\nc,d,\"[[\"\"a\"\",\"\"b\"\"]]\"\n").rows.at(0).ends.size(),
            1u);
  for (const char* wrong : {R"("history": [["a"]])", R"("history": "x")", R"("history": {"a": "b"})",
                            R"("history": [["a", null]])", R"("history": ["a", "b"])"}) {
    EXPECT_THROW(only(std::string(R"({"instruction": "c", "output": "d", )") + wrong + "}"), Error) << wrong;
  }
}

TEST_F(TextFormats, FilesMayBeOfSeveralKinds) {
  const auto one = write("one.jsonl", "{\"text\": \"a\"}\n");
  const auto two =
      write("two.jsonl", "{\"prompt\": null, \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
  const auto three = write("three.csv", "instruction,output\nc,d\ne,f\n");
  const TextDataset dataset =
      load_texts(DataFiles(std::vector<std::string>{one.string(), two.string(), three.string()}), {}, {}, {});
  ASSERT_EQ(dataset.rows.size(), 4u);
  EXPECT_EQ(dataset.rows[0].text, "a");
  EXPECT_EQ(trained(dataset.rows[1]), "b");
  EXPECT_EQ(trained(dataset.rows[3]), "f");
  EXPECT_EQ(dataset.left_out, 1);
  const auto mixed = write("mixed.jsonl", "{\"text\": \"a\"}\n{\"instruction\": \"a\", \"output\": \"b\"}\n");
  expect_error(
      [&] {
        load_texts(DataFiles(std::vector<std::string>{two.string(), mixed.string()}), {}, {}, {});
      },
      "data.mixed-rows", {"mixed.jsonl, line 2"});
}

TEST_F(TextFormats, RowsOfSeveralKindsAreRefused) {
  refuses("{\"text\": \"a\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n", "data.mixed-rows",
          {"line 2", "holds text", "prompt, completion"});
  refuses("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": null}\n", "data.mixed-rows",
          {"line 2"});
  refuses("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": [], \"completion\": []}\n", "data.mixed-rows",
          {"line 2", "another type"});
}

TEST_F(TextFormats, RowsThatHoldNothingAreRefused) {
  refuses("{\"text\": \"a\"}\n{\"text\": \" \\n\"}\n", "data.empty-text", {"line 2", "text"});
  refuses(R"({"prompt": "a", "completion": ""})", "data.empty-text", {"completion"});
  refuses(R"({"instruction": " ", "output": "b"})", "data.empty-text", {"instruction"});
  refuses(R"({"question": "a", "answer": ""})", "data.empty-text", {"answer"});
  refuses(R"({"text": 4})", "data.not-text", {"number"});
  refuses(R"({"prompt": "a", "completion": ["b"]})", "data.not-text", {"completion", "array"});
  refuses(R"({"words": "a"})", "config.text-format", {"words", "completion"});
  refuses("", "data.empty-file", {"rows.jsonl"});
  refuses("{\"text\": \"a\"}\n{\"text\": ", "format.json-line", {"line 2"});
  refuses("[1]", "format.json-line", {"item 1", "number"});
  expect_error([&] { load("rows.xlsx", "x"); }, "config.file-format", {".xlsx", ".jsonl"});
  expect_error([&] { load("rows.txt", " \n"); }, "data.empty-file", {"rows.txt"});
  expect_error([&] { load("rows.txt", "\xFF\xFEh"); }, "format.encoding", {"UTF-16"});
  expect_error([&] { load_texts(folder_ / "none.jsonl", {}, {}, {}); }, "config.not-found", {"none.jsonl"});
}

TEST_F(TextFormats, BytesThatAreNoUtf8AreRefusedOrReadAsWhatTheyAre) {
  const DataOptions latin{.encoding = "latin-1"};
  for (const auto& [name, text] :
       {std::pair("rows.txt", "caf\xE9"), std::pair("rows.jsonl", "{\"text\": \"caf\xE9\"}"),
        std::pair("rows.json", "[{\"text\": \"caf\xE9\"}]"), std::pair("rows.csv", "text\ncaf\xE9\n"),
        std::pair("rows.tsv", "text\ncaf\xE9\n")}) {
    expect_error([&] { load(name, text); }, "format.encoding", {name, "0xE9", "line", "column"});
    EXPECT_EQ(load(name, text, {}, {}, latin).rows.at(0).text, "caf\xC3\xA9") << name;
  }
}

TEST_F(TextFormats, NullIsTold) {
  refuses(R"({"text": null})", "data.not-text", {"\"text\" is null", "line 1"});
  refuses("{\"text\": \"a\"}\n{\"text\": null}\n", "data.mixed-rows", {"\"text\" is null", "line 2"});
}

std::string many(const std::string& row, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += row + "\n";
  return text;
}

TEST_F(TextFormats, BadRowsAreLeftOutCountedAndShown) {
  const auto refuses_critics = [](const Json& messages, bool prompt, const Json& variables) {
    for (const Json& message : messages) {
      if (message["role"] != "critic") continue;
      throw Error{{.id = "data.chat-template", .what = "no critics here", .where = "chat.jinja", .fix = "f"}};
    }
    return test::render_turns(messages, prompt, variables);
  };
  const std::string good = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  const TextDataset talk =
      load("talk.jsonl",
           R"({"messages": null})"
           "\n" +
               many(good, 40) + R"({"messages": [{"role": "user", "content": "a"}]})" + "\n" +
               R"({"messages": [{"role": "critic", "content": "a"}, {"role": "assistant", "content": "b"}]})" + "\n" +
               R"({"messages": [{"role": "user"}]})" + "\n" + R"({"tools": "x", "messages": []})" + "\n",
           refuses_critics);
  EXPECT_EQ(talk.rows.size(), 40u);
  EXPECT_EQ(talk.rows[0].line, 2);
  EXPECT_EQ(talk.rows[0].record, 2);
  EXPECT_EQ(talk.ids.size(), 45u);
  EXPECT_EQ(talk.left_out, 5);
  ASSERT_EQ(talk.reasons.size(), 5u);
  EXPECT_EQ(talk.reasons[0], "line 1: \"messages\" is null");
  EXPECT_EQ(talk.reasons[1].substr(0, 28), "line 42: the assistant says ");
  EXPECT_EQ(talk.reasons[2], "line 43: no critics here");
  EXPECT_EQ(talk.reasons[3], "line 44, message 1: \"content\" is missing");
  const TextDataset items =
      load("rows.json", R"([{"instruction": "a", "output": "b"}, {"instruction": "a", "output": ""}])");
  EXPECT_EQ(items.reasons, (std::vector<std::string>{"item 2: \"output\" is empty"}));
  const std::string pair = R"({"prompt": "a", "completion": "b"})";
  const TextDataset partial =
      load("rows.jsonl", many(pair, 20) + R"({"prompt": "a"})" + "\n" + R"({"prompt": "a", "completion": 4})");
  EXPECT_EQ(partial.left_out, 2);
}

TEST_F(TextFormats, MoreBadRowsThanAreAllowedAreAnError) {
  const std::string good = R"({"prompt": "a", "completion": "b"})", bad = R"({"prompt": "a", "completion": ""})";
  const auto told = [&](int good_rows, int bad_rows, double share, const std::vector<std::string>& words) {
    expect_error([&] { load("rows.jsonl", many(good, good_rows) + many(bad, bad_rows), {}, {.max_bad_rows = share}); },
                 "data.empty-text", words);
  };
  EXPECT_EQ(load("rows.jsonl", many(good, 18) + many(bad, 2)).rows.size(), 18u);
  told(17, 3, 0.1,
       {"\"completion\" is empty", "3 of 20 rows", "line 18", "line 19: \"completion\"",
        "max_bad_rows 0.1 leaves out 2"});
  told(10, 10, 0.1, {"10 of 20 rows", "and 5 more"});
  told(1, 1, 0, {"rows.jsonl, line 2"});
  told(0, 1, 1, {"rows.jsonl, line 1"});
  told(0, 3, 1, {"any of 3 rows"});
  EXPECT_EQ(load("rows.jsonl", many(good, 1) + many(bad, 5), {}, {.max_bad_rows = 1}).rows.size(), 1u);
  // What is wrong with the file, and not with a row, is never left out.
  expect_error([&] { load("rows.jsonl", many(good, 20) + R"({"text": "a"})"); }, "data.mixed-rows", {"line 21"});
  expect_error([&] { load("rows.jsonl", many(good, 20) + R"({"text": )"); }, "format.json-line", {"line 21"});
  expect_error([&] { load("rows.jsonl", R"({"words": "a"})" + ("\n" + many(good, 20))); }, "config.text-format",
               {"line 1"});
}

TEST_F(TextFormats, BlankRowsAreKeptWhereTheyAreAskedFor) {
  const auto kept = [&](const std::string& rows, const ChatRenderer& render = {}) {
    return load_texts(write("rows.jsonl", rows), {}, {}, render, Blank::kept);
  };
  const TextDataset texts = kept("{\"id\": 4, \"text\": \"a\"}\n\n{\"text\": \"\"}\n{\"text\": \" \"}\n");
  ASSERT_EQ(texts.rows.size(), 3u);
  EXPECT_EQ(texts.rows[2].text, " ");
  EXPECT_EQ(texts.rows[2].record, 3);
  EXPECT_EQ(texts.rows[2].line, 4);
  EXPECT_EQ(texts.ids, (std::vector<Json>{4, nullptr, nullptr}));
  EXPECT_EQ(kept(R"({"prompt": "a", "completion": ""})").rows.at(0).text, "a");
  const TextDataset asked = kept(R"({"messages": [{"role": "user", "content": "a"}]})", test::render_turns);
  EXPECT_EQ(asked.rows.at(0).text, "user:a<turn>\n");
  EXPECT_TRUE(asked.rows.at(0).trained.empty());
}

class LoadTextData : public test::Files {};

TEST_F(LoadTextData, RowsThatAreLeftOutAreToldOfTheTrainingFile) {
  const auto file = write("rows.jsonl", many(R"({"text": "a"})", 20) + R"({"text": ""})").string();
  const DataOptions split{.train_file = file, .validation_split = 0.25};
  const TextData data = load_text_data(split, {}, {}, 1);
  EXPECT_EQ(data.train.left_out, 1);
  EXPECT_EQ(data.train.reasons.size(), 1u);
  EXPECT_EQ(data.validation.left_out, 0);
  const DataOptions two{.train_file = file, .validation_file = file};
  EXPECT_EQ(load_text_data(two, {}, {}, 1).validation.left_out, 1);
}

TEST_F(LoadTextData, HoldsOutRowsAndKeepsTheFirst) {
  std::string rows;
  for (int i = 0; i < 20; ++i) rows += "{\"text\": \"row " + std::to_string(i) + "\"}\n";
  DataOptions options{.train_file = write("rows.jsonl", rows).string(), .validation_split = 0.25};
  const TextData data = load_text_data(options, {}, {}, 42);
  EXPECT_EQ(data.train.rows.size(), 15u);
  EXPECT_EQ(data.validation.rows.size(), 5u);
  std::vector<int64_t> lines;
  for (const TextDataset* dataset : {&data.train, &data.validation}) {
    EXPECT_TRUE(std::is_sorted(dataset->rows.begin(), dataset->rows.end(),
                               [](const auto& a, const auto& b) { return a.line < b.line; }));
    for (const TextExample& row : dataset->rows) lines.push_back(row.line);
  }
  std::sort(lines.begin(), lines.end());
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(lines[static_cast<size_t>(i)], i + 1);
  EXPECT_EQ(load_text_data(options, {}, {}, 42).validation.rows[0].line, data.validation.rows[0].line);
  options.max_train_samples = 3;
  options.max_eval_samples = 2;
  const TextData few = load_text_data(options, {}, {}, 42);
  EXPECT_EQ(few.train.rows.size(), 3u);
  EXPECT_EQ(few.validation.rows.size(), 2u);
  EXPECT_EQ(few.validation.rows[0].line, data.validation.rows[0].line);
}

TEST_F(LoadTextData, HoldsOutTheEndOfARunningText) {
  const std::string text = "one line\ntwo lines\nthree lines\nfour lines\n";
  const DataOptions options{.train_file = write("a.txt", text).string(), .validation_split = 0.3};
  const TextData data = load_text_data(options, {}, {}, 42);
  EXPECT_EQ(data.train.rows.at(0).text, "one line\ntwo lines\n");
  EXPECT_EQ(data.validation.rows.at(0).text, "three lines\nfour lines\n");
  EXPECT_EQ(data.validation.rows.at(0).line, 3);
  EXPECT_EQ(data.validation.rows.at(0).trained, (ByteRanges{{0, 23}}));
  EXPECT_TRUE(data.validation.continuous);
  const DataOptions character{.train_file = write("b.txt", "\xC3\xA4\xC3\xA4").string(), .validation_split = 0.6};
  EXPECT_EQ(load_text_data(character, {}, {}, 1).validation.rows.at(0).text, "\xC3\xA4");
  const DataOptions short_text{.train_file = write("c.txt", "a").string(), .validation_split = 0.3};
  expect_error([&] { load_text_data(short_text, {}, {}, 1); }, "data.too-few-rows", {"c.txt"});
  const DataOptions rows{.train_file = write("d.txt", text).string(), .validation_split = 5};
  expect_error([&] { load_text_data(rows, {}, {}, 1); }, "config.conflict", {"validation_split", "d.txt"});
}

TEST_F(LoadTextData, ReadsAValidationFile) {
  const DataOptions options{.train_file = write("a.txt", "train").string(),
                            .validation_file = write("b.jsonl", "{\"text\": \"check\"}").string()};
  EXPECT_EQ(load_text_data(options, {}, {}, 1).validation.rows.at(0).text, "check");
}

TEST_F(LoadTextData, FindsTheFilesOfATask) {
  write("ARC-Easy/train.json", R"([{"instruction": "a", "output": "b"}])");
  const DataOptions options{.task_name = "ARC-Easy", .dataset_dir = folder_.string()};
  EXPECT_EQ(text_split_file(options, Split::train), folder_ / "ARC-Easy/train.json");
  EXPECT_EQ(text_split_file(options, Split::validation), std::nullopt);
  EXPECT_EQ(load_text_data(options, {}, {}, 1).train.rows.size(), 1u);
  const DataOptions inside{.task_name = "arc_easy", .dataset_dir = (folder_ / "ARC-Easy").string()};
  EXPECT_EQ(text_split_file(inside, Split::train), folder_ / "ARC-Easy/train.json");
  expect_error([&] { text_split_file(options, Split::test); }, "config.dataset-dir", {"test.json", "test_file"});
  const DataOptions training{.task_name = "math_10k", .dataset_dir = folder_.string()};
  expect_error([&] { text_split_file(training, Split::test); }, "config.dataset-dir", {"no test set"});
  const DataOptions unknown{.task_name = "arc_esy", .dataset_dir = folder_.string()};
  expect_error([&] { text_split_file(unknown, Split::train); }, "config.unknown-task", {"did you mean 'arc_easy'"});
  write("piqa/train.json", "[]");  // two sets, of which none is named
  const DataOptions unnamed{.dataset_dir = folder_.string()};
  expect_error([&] { text_split_file(unnamed, Split::train); }, "config.dataset-dir", {"task_name"});
  expect_error([&] { load_text_data({}, {}, {}, 1); }, "config.no-data", {"train_file"});
}

}  // namespace
}  // namespace deltaw

// Every kind of row, and every way to get one wrong.
#include <algorithm>

#include "data/bytes.h"
#include "data/files.h"

namespace deltaw {
namespace {

using test::expect_error;

class TextFormats : public test::Files {
 protected:
  TextDataset load(const std::string& name, std::string_view text, const ChatRenderer& render = test::render_turns,
                   const TextOptions& options = {}, const DataOptions& data = {}) const {
    return load_texts(write(name, text), data, options, render);
  }

  TextExample only(std::string_view row, const ChatRenderer& render = test::render_turns,
                   const TextOptions& options = {}) const {
    const TextDataset dataset = load("rows.jsonl", row, render, options);
    EXPECT_EQ(dataset.rows.size(), 1u);
    return dataset.rows.at(0);
  }

  void refuses(std::string_view text, const std::string& id, const std::vector<std::string>& words,
               const ChatRenderer& render = test::render_turns) const {
    expect_error([&] { load("rows.jsonl", text, render, {.max_bad_rows = 0}); }, id, words);
  }
};

/// The trained parts, a bar between them.
std::string trained(const TextExample& example) {
  std::string text;
  for (const auto& [begin, end] : example.trained) {
    text += (text.empty() ? "" : "|") + example.text.substr(begin, end - begin);
  }
  return text;
}

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

constexpr const char* kTwoTurns =
    R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},
 {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";

std::string one_line(std::string text) {
  std::erase(text, '\n');
  return text;
}

TEST_F(TextFormats, MessagesTrainEveryAnswerWithItsEnd) {
  const TextExample row = only(one_line(kTwoTurns));
  EXPECT_EQ(row.text, "system:S<turn>\nuser:a<turn>\nassistant:b<turn>\nuser:c<turn>\nassistant:d<turn>\n");
  EXPECT_EQ(trained(row), "b<turn>\n|d<turn>\n");
  EXPECT_FALSE(row.add_special_tokens);
  EXPECT_FALSE(row.end);
  EXPECT_EQ(row.turns_left_out, 0);
  EXPECT_EQ(trained(only(one_line(kTwoTurns), test::render_marked)), "b<turn>|d<turn>");
  TextOptions all;
  all.completion_only_loss = false;
  EXPECT_EQ(trained(only(one_line(kTwoTurns), test::render_turns, all)), row.text);
}

TEST_F(TextFormats, AClosedTextEndsTurnsWhereTheyEnd) {
  EXPECT_EQ(trained(only(one_line(kTwoTurns), test::render_closed)), "b<turn>\n|d<turn>\n<end>");
}

TEST_F(TextFormats, AnAnswerThatIsRewrittenLaterIsLearnedAsItStandsThere) {
  const TextExample row = only(one_line(kTwoTurns), test::render_thoughts);
  EXPECT_EQ(trained(row), "b<turn>\n|(thought)d<turn>\n");
  EXPECT_EQ(row.turns_left_out, 0);
}

TEST_F(TextFormats, AnswersBehindAPromptThatOpensAThoughtAreFound) {
  const TextExample row = only(one_line(kTwoTurns), test::render_opened);
  EXPECT_EQ(trained(row), "b<turn>\n|d<turn>\n");
  EXPECT_EQ(row.turns_left_out, 0);
}

// DeepSeek-R1's way: the prompt opens a thought, and no answer keeps what it thought.
ChatTemplate::Rendered render_unthought(const Json& messages, bool prompt, const Json&) {
  std::string text;
  for (const Json& message : messages) {
    std::string words = test::said(message);
    if (const size_t thought = words.rfind("</think>"); thought != std::string::npos) words = words.substr(thought + 8);
    text += "<" + message["role"].get<std::string>() + ">" + words + "<end>";
  }
  return {text + (prompt ? "<assistant><think>\n" : ""), {}};
}

TEST_F(TextFormats, AnAnswerWithoutItsThoughtIsFound) {
  const TextExample row = only(
      R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": )"
      R"("<think>\none?\n</think>\n\none"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "b"}]})",
      render_unthought);
  EXPECT_EQ(row.text, "<user>one<end><assistant>\n\none<end><user>b<end><assistant>b<end>");
  EXPECT_EQ(trained(row), "\n\none<end>|b<end>");
}

TEST_F(TextFormats, WhatAnAnswerCallsIsFound) {
  const auto calls = [](const Json& messages, bool prompt, const Json&) {
    std::string text;
    for (size_t i = 0; i < messages.size(); ++i) {
      const Json& message = messages[i];
      const bool thinks = message["role"] == "assistant" && i + 1 == messages.size();
      text += "<" + message["role"].get<std::string>() + ">" + (thinks ? "(thought)" : "") + test::said(message);
      if (message.contains("tool_calls"))
        text += "call " + message["tool_calls"][0]["function"]["name"].get<std::string>();
      text += "<end>";
    }
    return ChatTemplate::Rendered{text + (prompt ? "<assistant>" : ""), {}};
  };
  const TextExample row =
      only(R"({"messages": [{"role": "user", "content": "w"}, {"role": "assistant", "tool_calls": [{"function": )"
           R"({"name": "w"}}]}, {"role": "tool", "content": "3"}, {"role": "assistant", "content": "It is 3."}]})",
           calls);
  EXPECT_EQ(trained(row), "call w<end>|(thought)It is 3.<end>");
  EXPECT_EQ(row.turns_left_out, 0);
}

TEST_F(TextFormats, AnswersMayComeFirstAndTwice) {
  const char* first = R"({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "a"}, )"
                      R"({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "a"}]})";
  EXPECT_EQ(trained(only(first)), "a<turn>\n|a<turn>\n|a<turn>\n");
  EXPECT_EQ(trained(only(first, test::render_opened)), "a<turn>\n|a<turn>\n|a<turn>\n");
  EXPECT_EQ(trained(only(first, test::render_closed)), "a<turn>\n|a<turn>\n|a<turn>\n<end>");
  const auto needs_a_message = [](const Json& messages, bool prompt, const Json& variables) {
    if (messages.empty()) {
      throw Error{{.id = "data.chat-template", .what = "no first message", .where = "t", .fix = "f"}};
    }
    return test::render_turns(messages, prompt, variables);
  };
  EXPECT_EQ(trained(only(first, needs_a_message)), "a<turn>\n|a<turn>\n|a<turn>\n");
}

TEST_F(TextFormats, AnAnswerThatDoesNotStandInTheTextIsCounted) {
  const auto shouts = [](const Json& messages, bool prompt, const Json& variables) {
    Json others = messages;
    for (size_t i = 0; i + 1 < others.size(); ++i) {
      if (others[i]["role"] == "assistant") others[i]["content"] = "(cut)";
    }
    return test::render_turns(others, prompt, variables);
  };
  const TextExample row = only(one_line(kTwoTurns), shouts);
  EXPECT_EQ(trained(row), "d<turn>\n");
  EXPECT_EQ(row.turns_left_out, 1);
}

TEST_F(TextFormats, ATemplateWhoseAnswersCannotBeToldApartIsRefused) {
  const auto silent = [](const Json& messages, bool prompt, const Json&) {
    return ChatTemplate::Rendered{std::to_string(messages.size()) + (prompt ? "?" : "!"), {}};
  };
  refuses(one_line(kTwoTurns), "data.chat-template", {"message 5", "rows.jsonl, line 1", "generation"}, silent);
}

TEST_F(TextFormats, SharegptIsAConversationToo) {
  const TextExample row =
      only(R"({"system": "S", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})");
  EXPECT_EQ(row.text, "system:S<turn>\nuser:a<turn>\nassistant:b<turn>\n");
  EXPECT_EQ(trained(row), "b<turn>\n");
  const TextExample tool =
      only(R"({"conversations": [{"from": "user", "value": "a"}, {"from": "observation", "value": "o"},)"
           R"( {"from": "assistant", "value": "b"}]})");
  EXPECT_EQ(tool.text, "user:a<turn>\ntool:o<turn>\nassistant:b<turn>\n");
}

/// Writes what is called beside what is said.
ChatTemplate::Rendered render_calls(const Json& messages, bool prompt, const Json&) {
  std::string text;
  for (const Json& message : messages) {
    text += message["role"].get<std::string>() + ":" + test::said(message);
    if (message.contains("tool_calls")) {
      for (const Json& call : message["tool_calls"]) text += "[" + call["function"].dump() + "]";
    }
    text += "<turn>\n";
  }
  return {text + (prompt ? "assistant:" : ""), {}};
}

TEST_F(TextFormats, FunctionCallsOfSharegptAreTheAssistants) {
  const char* row =
      R"({"conversations": [{"from": "human", "value": "w?"}, {"from": "function_call", "value": )"
      R"("{\"name\": \"w\", \"arguments\": {}}"}, {"from": "observation", "value": "3"}, {"from": "chatgpt", "value": "It is 3."}]})";
  const TextExample plain = only(row);
  EXPECT_EQ(plain.text,
            "user:w?<turn>\nassistant:{\"name\": \"w\", \"arguments\": {}}<turn>\ntool:3<turn>\n"
            "assistant:It is 3.<turn>\n");
  EXPECT_EQ(trained(plain), "{\"name\": \"w\", \"arguments\": {}}<turn>\n|It is 3.<turn>\n");
  const TextExample called = only(row, render_calls);
  EXPECT_EQ(trained(called), "[{\"name\":\"w\",\"arguments\":{}}]<turn>\n|It is 3.<turn>\n");
  const std::string several =
      R"({"conversations": [{"from": "human", "value": "w?"}, {"from": "function_call", "value": )"
      R"("[{\"name\": \"w\"}, {\"name\": \"v\"}]"}]})";
  EXPECT_EQ(trained(only(several, render_calls)),
            "[{\"name\":\"w\",\"arguments\":{}}][{\"name\":\"v\",\"arguments\":{}}]<turn>\n");
  const std::string words =
      R"({"conversations": [{"from": "human", "value": "w?"}, {"from": "function_call", "value": "w(1)."}]})";
  EXPECT_EQ(trained(only(words, render_calls)), "w(1).<turn>\n");
  const auto names = [](const Json& messages, bool prompt, const Json& variables) {
    ChatTemplate::Rendered result = render_calls(messages, prompt, variables);
    for (const Json& message : messages) {
      if (message["role"] != "tool") continue;
      result.text =
          message["name"].get<std::string>() + " " + message["tool_call_id"].get<std::string>() + "\n" + result.text;
    }
    return result;
  };
  EXPECT_TRUE(only(row, names).text.starts_with("w call00100\n"));
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

TEST_F(TextFormats, ToolsReachTheTemplate) {
  const char* list =
      R"({"tools": [1], "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  const char* text =
      R"({"tools": "[1]", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  EXPECT_EQ(only(list).text, "tools:[1]\nuser:a<turn>\nassistant:b<turn>\n");
  EXPECT_EQ(only(text).text, only(list).text);
  for (const char* none : {"null", "\"\"", "[]"}) {
    EXPECT_EQ(only(std::string(R"({"tools": )") + none +
                   R"(, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})")
                  .text,
              "user:a<turn>\nassistant:b<turn>\n");
  }
  refuses(R"({"tools": 3, "messages": [{"role": "user", "content": "a"}]})", "data.messages", {"tools"});
}

TEST_F(TextFormats, MessagesOfWeightZeroAreNotTrainedOn) {
  const char* row = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", )"
                    R"("weight": 0}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  EXPECT_EQ(trained(only(row)), "d<turn>\n");
  EXPECT_EQ(trained(only(row, test::render_marked)), "d<turn>");
  const auto joined = [](const Json& messages, bool prompt, const Json& variables) {
    ChatTemplate::Rendered result = test::render_marked(messages, prompt, variables);
    result.generated.resize(1);
    return result;
  };
  refuses(row, "data.chat-template", {"1 generated parts for 2 answers"}, joined);
}

TEST_F(TextFormats, MessagesThatAreNotToBeTrainedOnAreReadOnly) {
  for (const char* off : {"\"train\": false", "\"train\": 0", "\"weight\": 0.0"}) {
    const std::string row =
        std::string(R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", )") + off +
        R"(}, {"from": "human", "value": "c"}, {"from": "gpt", "value": "d", "train": true}]})";
    EXPECT_EQ(trained(only(row)), "d<turn>\n") << off;
    EXPECT_EQ(only(row).turns_left_out, 0);
  }
  EXPECT_EQ(trained(only(R"({"messages": [{"role": "user", "content": "a"}, )"
                         R"({"role": "assistant", "content": "b", "train": null, "weight": null}]})")),
            "b<turn>\n");
  refuses(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": false}]})",
          "data.messages", {"nothing that is to be trained on"});
}

TEST_F(TextFormats, MessagesMayBePromptAndCompletion) {
  const char* row = R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
                    R"({"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})";
  EXPECT_EQ(trained(only(row)), "d<turn>\n");
  EXPECT_EQ(trained(only(row, test::render_marked)), "d<turn>");
}

TEST_F(TextFormats, ConversationsThatAreNoneAreRefused) {
  refuses(R"({"messages": []})", "data.messages", {"rows.jsonl, line 1"});
  refuses(R"({"messages": "hello"})", "data.messages", {"list of messages"});
  refuses(R"({"messages": ["hello"]})", "data.messages", {"message 1", "string"});
  refuses(R"({"messages": [{"role": "user"}]})", "data.messages", {"message 1", "content"});
  refuses(R"({"messages": [{"content": "a"}]})", "data.messages", {"message 1", "role"});
  refuses(R"({"messages": [{"role": "user", "content": 4}]})", "data.messages", {"message 1", "content"});
  refuses(R"({"messages": [{"role": "user", "content": "a"}]})", "data.messages", {"assistant says nothing"});
  refuses(R"({"conversations": [{"from": "alien", "value": "a"}]})", "data.messages", {"alien", "human"});
  refuses(R"({"conversations": [{"from": "human"}]})", "data.messages", {"value"});
  refuses(one_line(kTwoTurns), "config.no-chat-template", {"chat_template"}, ChatRenderer());
  refuses(R"({"messages": [{"role": "assistant", "content": null}]})", "data.messages", {"\"content\" is null"});
  refuses(R"({"messages": [{"role": "assistant", "content": null, "tool_calls": null}]})", "data.messages",
          {"\"content\" is null"});
  refuses(R"({"conversations": [{"from": "human", "value": null}]})", "data.messages", {"\"value\" is null"});
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
  expect_error([&] { load("rows.parquet", "x"); }, "config.file-format", {".parquet", ".jsonl"});
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
  const DataOptions unnamed{.dataset_dir = folder_.string()};
  expect_error([&] { text_split_file(unnamed, Split::train); }, "config.dataset-dir", {"task_name"});
  expect_error([&] { load_text_data({}, {}, {}, 1); }, "config.no-data", {"train_file"});
}

}  // namespace
}  // namespace deltaw

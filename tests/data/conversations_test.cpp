// Conversations, and where the assistant's answers stand in what a template writes of them.
#include <algorithm>

#include "data/text_formats.h"

namespace deltaw {
namespace {

using test::trained;

class Conversations : public test::TextFormats {};

constexpr const char* kTwoTurns =
    R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},
 {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";

std::string one_line(std::string text) {
  std::erase(text, '\n');
  return text;
}

TEST_F(Conversations, MessagesTrainEveryAnswerWithItsEnd) {
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

TEST_F(Conversations, AClosedTextEndsTurnsWhereTheyEnd) {
  EXPECT_EQ(trained(only(one_line(kTwoTurns), test::render_closed)), "b<turn>\n|d<turn>\n<end>");
}

TEST_F(Conversations, AnAnswerThatIsRewrittenLaterIsLearnedAsItStandsThere) {
  const TextExample row = only(one_line(kTwoTurns), test::render_thoughts);
  EXPECT_EQ(trained(row), "b<turn>\n|(thought)d<turn>\n");
  EXPECT_EQ(row.turns_left_out, 0);
}

TEST_F(Conversations, AnswersBehindAPromptThatOpensAThoughtAreFound) {
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

TEST_F(Conversations, AnAnswerWithoutItsThoughtIsFound) {
  const TextExample row = only(
      R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": )"
      R"("<think>\none?\n</think>\n\none"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "b"}]})",
      render_unthought);
  EXPECT_EQ(row.text, "<user>one<end><assistant>\n\none<end><user>b<end><assistant>b<end>");
  EXPECT_EQ(trained(row), "\n\none<end>|b<end>");
}

TEST_F(Conversations, WhatAnAnswerCallsIsFound) {
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

TEST_F(Conversations, AnswersMayComeFirstAndTwice) {
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

TEST_F(Conversations, AnAnswerThatDoesNotStandInTheTextIsCounted) {
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

TEST_F(Conversations, ATemplateWhoseAnswersCannotBeToldApartIsRefused) {
  const auto silent = [](const Json& messages, bool prompt, const Json&) {
    return ChatTemplate::Rendered{std::to_string(messages.size()) + (prompt ? "?" : "!"), {}};
  };
  refuses(one_line(kTwoTurns), "data.chat-template", {"message 5", "rows.jsonl, line 1", "generation"}, silent);
}

TEST_F(Conversations, SharegptIsAConversationToo) {
  const TextExample row =
      only(R"({"system": "S", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})");
  EXPECT_EQ(row.text, "system:S<turn>\nuser:a<turn>\nassistant:b<turn>\n");
  EXPECT_EQ(trained(row), "b<turn>\n");
  const TextExample own = only(R"({"system": "S", "conversations": [{"from": "system", "value": "own"},)"
                               R"( {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})");
  EXPECT_EQ(own.text, "system:own<turn>\nuser:a<turn>\nassistant:b<turn>\n") << "one message of the system";
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

TEST_F(Conversations, FunctionCallsOfSharegptAreTheAssistants) {
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

TEST_F(Conversations, ToolsReachTheTemplate) {
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

TEST_F(Conversations, MessagesOfWeightZeroAreNotTrainedOn) {
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

TEST_F(Conversations, MessagesThatAreNotToBeTrainedOnAreReadOnly) {
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

TEST_F(Conversations, MessagesMayBePromptAndCompletion) {
  const char* row = R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
                    R"({"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})";
  EXPECT_EQ(trained(only(row)), "d<turn>\n");
  EXPECT_EQ(trained(only(row, test::render_marked)), "d<turn>");
}

TEST_F(Conversations, ConversationsThatAreNoneAreRefused) {
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

/// Writes contents as they stand, lists with their brackets.
ChatTemplate::Rendered render_shown(const Json& messages, bool prompt, char quote) {
  std::string text;
  for (const Json& message : messages) {
    std::string content = message["content"].is_string() ? test::said(message) : message["content"].dump();
    for (size_t at = 0; (at = content.find("\":", at)) != std::string::npos; at += 2) content.insert(at + 2, " ");
    std::replace(content.begin(), content.end(), '"', quote);
    text += message["role"].get<std::string>() + ":" + content + "<turn>\n";
  }
  return {text + (prompt ? "assistant:" : ""), {}};
}

/// As {{ message.content }} does.
ChatTemplate::Rendered render_as_python(const Json& messages, bool prompt, const Json&) {
  return render_shown(messages, prompt, '\'');
}

/// As {{ message.content | tojson }} does.
ChatTemplate::Rendered render_as_json(const Json& messages, bool prompt, const Json&) {
  return render_shown(messages, prompt, '"');
}

ChatTemplate::Rendered render_texts_alone(const Json& messages, bool prompt, const Json& variables) {
  for (const Json& message : messages) {
    if (!message["content"].is_string()) throw Error{{.id = "data.chat-template", .what = "a list has no strip"}};
  }
  return test::render_turns(messages, prompt, variables);
}

/// Writes the texts of parts, each between bars.
ChatTemplate::Rendered render_parts(const Json& messages, bool prompt, const Json&) {
  std::string text;
  for (const Json& message : messages) {
    std::string content = test::said(message);
    for (const Json& part : message["content"].is_array() ? message["content"] : Json::array()) {
      content += "|" + part.value("text", std::string("image")) + "|";
    }
    text += message["role"].get<std::string>() + ":" + content + "<turn>\n";
  }
  return {text + (prompt ? "assistant:" : ""), {}};
}

constexpr const char* kParts =
    R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}, )"
    R"({"role": "assistant", "content": [{"type": "text", "text": "c"}]}, {"role": "user", "content": "d"}, )"
    R"({"role": "assistant", "content": "e"}]})";

TEST_F(Conversations, PartsAreOneTextWhereTheTemplateKnowsNoLists) {
  for (const auto render : {test::render_turns, render_as_python, render_as_json, render_texts_alone}) {
    const TextExample row = only(kParts, render);
    EXPECT_EQ(row.text, "user:a b<turn>\nassistant:c<turn>\nuser:d<turn>\nassistant:e<turn>\n");
    EXPECT_EQ(trained(row), "c<turn>\n|e<turn>\n");
  }
  EXPECT_EQ(only(kParts, render_parts).text.substr(0, 16), "user:|a ||b|<tur");
}

TEST_F(Conversations, ImagesAmongPartsAreForTemplatesThatReadThem) {
  const char* row = R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}, )"
                    R"({"role": "assistant", "content": "b"}]})";
  refuses(row, "data.messages", {"no text", "image", "line 1, message 1"}, render_as_python);
  const char* bare = R"({"messages": [{"role": "user", "content": ["a"]}, {"role": "assistant", "content": "b"}]})";
  refuses(bare, "data.messages", {"no text", "\"a\""}, render_as_python);
  EXPECT_EQ(only(row, render_parts).text, "user:|a||image|<turn>\nassistant:b<turn>\n");
}

}  // namespace
}  // namespace deltaw

#include "deltaw/chat.h"

#include <gtest/gtest.h>

#include <ctime>
#include <map>
#include <random>
#include <thread>

#include "core/files.h"
#include "deltaw/error.h"
#include "support/data.h"
#include "support/temporary.h"

namespace deltaw {
namespace {

using test::fixture;
using Spans = std::vector<std::pair<size_t, size_t>>;

const Json& oracle() {
  static const Json cases = read_json(fixture("text/fixtures/chat/cases.json"));
  return cases;
}

const std::string& template_text(const std::string& name) {
  static std::map<std::string, std::string> texts;
  auto [at, is_new] = texts.try_emplace(name);
  if (is_new) at->second = read_file(fixture("text/fixtures/chat/" + name + ".jinja"));
  return at->second;
}

Json more_of(const Json& conversation) {
  return conversation.value("more", Json::object());
}

std::string render(const std::string& source, const Json& messages = Json::array(),
                   const Json& variables = Json::object()) {
  return ChatTemplate(source).render(messages, false, variables).text;
}

/// Id, what and where of the error that reading or rendering ends with.
std::string failure(const std::string& source, const Json& messages = Json::array()) {
  try {
    return "rendered: " + render(source, messages);
  } catch (const Error& error) {
    return error.id() + ": " + error.parts().what + " @ " + error.parts().where;
  }
}

void expect_same(const ChatTemplate& chat, const Json& conversation, bool add, const Json& expected) {
  try {
    const ChatTemplate::Rendered rendered = chat.render(conversation["messages"], add, more_of(conversation));
    ASSERT_TRUE(expected.contains("text")) << "transformers refuses: " << expected.dump();
    EXPECT_EQ(rendered.text, expected["text"].get<std::string>());
    EXPECT_EQ(rendered.generated, expected.value("generated", Spans{}));
  } catch (const Error& error) {
    ASSERT_FALSE(expected.contains("text")) << error.what();
    EXPECT_EQ(error.id(), "data.chat-template");
    EXPECT_EQ(error.parts().what, expected.value("raised", error.parts().what));
  }
}

TEST(ChatTemplate, RendersWhatTransformersRendersForEveryFamily) {
  ASSERT_GE(oracle()["cases"].size(), 700u);
  std::map<std::string, ChatTemplate> templates;
  for (const Json& expected : oracle()["cases"]) {
    const auto name = expected["template"].get<std::string>(),
               conversation = expected["conversation"].get<std::string>();
    const bool add = expected["add"].get<bool>();
    SCOPED_TRACE(name + ", " + conversation + (add ? ", with the prompt for an answer" : ""));
    const auto at = templates.try_emplace(name, template_text(name), oracle()["variables"]).first;
    expect_same(at->second, oracle()["conversations"][conversation], add, expected);
  }
}

TEST(ChatTemplate, ComputesWhatPythonComputes) {
  ASSERT_GE(oracle()["expressions"].size(), 80u);
  for (const Json& expected : oracle()["expressions"]) {
    SCOPED_TRACE(expected["source"].get<std::string>());
    const ChatTemplate chat(expected["source"].get<std::string>(), oracle()["variables"]);
    expect_same(chat, oracle()["conversations"]["tool_call"], false, expected);
  }
}

// As transformers: the first name is filled from the others, the second only where it has nothing of its own.
TEST(ChatTemplate, ReasoningGoesByEachOfItsNames) {
  const auto shown = [](const Json& message) {
    return render("{{ messages[0].reasoning_content }}, {{ messages[0].thinking }}", Json::array({message}));
  };
  EXPECT_EQ(shown({{"role", "assistant"}, {"reasoning_content", "a"}}), "a, a");
  EXPECT_EQ(shown({{"role", "assistant"}, {"thinking", "b"}, {"reasoning", "c"}}), "b, b");
  EXPECT_EQ(shown({{"role", "assistant"}, {"reasoning", "c"}}), "c, c");
  EXPECT_EQ(shown({{"role", "assistant"}, {"reasoning_content", "a"}, {"thinking", "b"}}), "a, b");
}

TEST(ChatTemplate, RefusesWhatIsOutsideTheSubsetWithItsLine) {
  const std::string end = " @ chat template, line 2";
  const auto refused = [&](const std::string& source) { return failure("a\n" + source); };
  const std::string id = "format.chat-template: ";
  EXPECT_EQ(refused("{% include 'x' %}"),
            id + "the statement '{% include %}' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ x | groupby('y') }}"), id + "the filter 'groupby' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ x is weird }}"), id + "the test 'weird' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ x.encode() }}"), id + "the method 'encode()' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ x.append(1) }}"), id + "the method 'append()' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ load(1) }}"), id + "the function 'load' is not known" + end);
  EXPECT_EQ(refused("{{ cycler('a') }}"), id + "the name 'cycler' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ x | map('pprint') }}"), id + "the filter 'pprint' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ x | select('weird') }}"), id + "the test 'weird' is not among those of chat templates" + end);
  EXPECT_EQ(refused("{% for x in y recursive %}{% endfor %}"),
            id + "'recursive' loops are not among those of chat templates" + end);
  EXPECT_EQ(refused("{{ f(*x) }}"), id + "the argument list '*...'" + end);
  EXPECT_EQ(refused("{% if x %}"), id + "expected 'endif', found the end of the template" + end);
  EXPECT_EQ(refused("{% endfor %}"), id + "'{% endfor %}' ends nothing that was begun" + end);
  EXPECT_EQ(refused("{{ 1 +"), id + "an expression '{{' has no end" + end);
  EXPECT_EQ(refused("{{ 'a }}"), id + "a string has no end" + end);
  EXPECT_EQ(refused("{{ (1] }}"), id + "']' closes nothing" + end);
  EXPECT_EQ(refused("{{ $x }}"), id + "'$' has no meaning here" + end);
  EXPECT_EQ(refused("{% break %}"), id + "'{% break %}' outside of a loop" + end);
  EXPECT_EQ(refused("{# a"), id + "a comment has no end" + end);
  EXPECT_EQ(refused("{% raw %}"), id + "{% raw %} has no {% endraw %}" + end);
  EXPECT_EQ(refused("{% macro m() %}{% generation %}{% endgeneration %}{% endmacro %}"),
            id + "'{% generation %}' inside a macro, a captured block or another '{% generation %}'" + end);
  EXPECT_EQ(refused("{{ 99999999999999999999 }}"), id + "the number 99999999999999999999 is beyond 64 bits" + end);
}

TEST(ChatTemplate, NamesTheLineOfAnOperationWithoutMeaning) {
  const std::string id = "data.chat-template: ", end = " @ chat template, line 3";
  const auto failed = [&](const std::string& source) { return failure("a\n\n" + source + "\n{{ 1 }}"); };
  EXPECT_EQ(failed("{{ who.name }}"), id + "'who' is undefined" + end);
  EXPECT_EQ(failed("{{ {}.a.b }}"), id + "a dict has no 'a'" + end);
  EXPECT_EQ(failed("{{ 'a' + 1 }}"), id + "'+' has no meaning for a str and a int" + end);
  EXPECT_EQ(failed("{{ 1 < 'a' }}"), id + "a int and a str have no order" + end);
  EXPECT_EQ(failed("{{ {}.clear + 1 }}"), id + "'clear' would change a dict, which templates cannot" + end);
  EXPECT_EQ(failed("{{ [1] | map('string') }}"), id + "a value of type iterator has no text" + end);
  EXPECT_EQ(failed("{{ ('a' | safe) + 'b' }}"),
            id + "a text marked safe is worked on further, which would escape what is joined to it" + end);
  EXPECT_EQ(failed("{{ 9223372036854775807 + 1 }}"), id + "'+' gives a number beyond 64 bits" + end);
  EXPECT_EQ(failed("{{ raise_exception('Only\nus') }}"), id + "Only\nus" + end);
  EXPECT_EQ(failure("x", Json::object()), id + "the messages are no list @ chat template");
  EXPECT_EQ(failure("x", Json::array({1})), id + "a message is no object @ chat template");
}

TEST(ChatTemplate, EndsEveryTemplateInBoundedTimeAndMemory) {
  const auto stopped = [](const std::string& source) {
    EXPECT_TRUE(failure(source).starts_with("data.chat-template: "))
        << source << ": " << failure(source).substr(0, 200);
  };
  const std::string forever = "{% for i in range(99999) %}", end = "{% endfor %}";
  stopped("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  stopped(forever + forever + forever + "x" + end + end + end);
  stopped("{% set n = namespace(x='ab') %}" + forever + "{% set n.x = n.x + n.x %}" + end);
  stopped("{% set n = namespace(x=[1]) %}" + forever + "{% set n.x = n.x + n.x %}" + end);
  stopped("{% set n = namespace(x=1) %}" + forever + "{% set n.x = [n.x] %}" + end);
  stopped("{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}" + end + "{{ n.x }}");
  stopped("{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}" + end +
          "{{ n.x | tojson }}");
  stopped("{{ 'a' * 9223372036854775807 }}");
  stopped("{{ [1] * 9223372036854775807 }}");
  stopped("{{ '%2000000000d' % 1 }}");
  stopped("{{ range(9223372036854775807) | list }}");
  EXPECT_TRUE(failure("{{ " + std::string(100'000, '(') + " }}").starts_with("format.chat-template: "));
  for (const char* block : {"{% if x %}", "{% for x in y %}", "{% set x %}", "{% filter trim %}", "{% macro m() %}",
                            "{% generation %}", "{% if x %}{% elif y %}", "{% if x %}{% else %}", "{{ not ", "{{ -",
                            "{{ x if ", "{{ [", "{{ {1: ", "{{ x[", "{{ f("}) {
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += block + (i > 0 && block[1] == '{' ? 3 : 0);  // the print is begun once
    EXPECT_TRUE(failure(deep).starts_with("format.chat-template: ")) << block << failure(deep).substr(0, 200);
  }
  std::string branches = "{% if x %}", attributes = "{{ x";
  for (int i = 0; i < 100'000; ++i) {
    branches += "{% elif y %}";
    attributes += ".a";
  }
  EXPECT_TRUE(failure(branches + "{% endif %}").starts_with("format.chat-template: nested deeper"));
  EXPECT_TRUE(failure(attributes + " }}").starts_with("format.chat-template: nested deeper"));
  std::string chain = "{{ 1";
  for (int i = 0; i < 100'000; ++i) chain += "+1";
  EXPECT_TRUE(failure(chain + " }}").starts_with("format.chat-template: nested deeper"));
  // Values that hold themselves are let go.
  EXPECT_EQ(
      render("{% set n = namespace() %}{% set n.n = n %}{% macro m() %}x{% endmacro %}{% set n.m = m %}{{ m() }}"),
      "x");
}

TEST(ChatTemplate, AcceptsLongConversations) {
  Json messages = Json::array();
  for (int i = 0; i < 2000; ++i) {
    messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(2000, 'a')}});
  }
  EXPECT_GT(ChatTemplate(template_text("qwen3_generation")).render(messages, true).text.size(), 4'000'000u);
}

TEST(ChatTemplate, SurvivesMutations) {
  std::mt19937 random(17);
  const auto pick = [&](size_t size) { return std::uniform_int_distribution<size_t>(0, size - 1)(random); };
  const std::string bits[] = {"{{", "}}", "{%",  "%}",   "-",    "'",      "(",   "]",
                              "|",  ".",  "for", "none", "\xC3", "[::-1]", " is "};
  size_t rendered = 0, refused = 0;
  for (const char* name :
       {"llama3_tools", "mistral_tools", "qwen3_generation", "command_r", "smollm3_xml", "deepseek_r1"}) {
    for (int round = 0; round < 150; ++round) {
      std::string source = template_text(name);
      for (size_t edits = 1 + pick(4); edits > 0; --edits) {
        const size_t at = pick(source.size()), length = std::min(1 + pick(12), source.size() - at);
        if (pick(2)) {
          source.erase(at, length);
        } else {
          source.insert(at, pick(2) ? bits[pick(std::size(bits))] : source.substr(pick(source.size()), length));
        }
      }
      for (const char* conversation : {"two_calls", "turns"}) {
        const Json& given = oracle()["conversations"][conversation];
        try {
          ChatTemplate(source, oracle()["variables"]).render(given["messages"], true, more_of(given));
          ++rendered;
        } catch (const Error& error) {
          ASSERT_TRUE(error.id() == "format.chat-template" || error.id() == "data.chat-template") << error.what();
          ASSERT_FALSE(error.parts().where.empty());
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(rendered, 100u);
  EXPECT_GT(refused, 100u);
}

TEST(ChatTemplate, RendersInSeveralThreadsAtOnce) {
  const ChatTemplate chat(template_text("qwen3_generation"), oracle()["variables"]);
  const Json& given = oracle()["conversations"]["two_calls"];
  const std::string expected = chat.render(given["messages"], true, more_of(given)).text;
  std::vector<std::thread> threads;
  std::vector<int> same(4, 0);
  for (int& count : same) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) count += chat.render(given["messages"], true, more_of(given)).text == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 50));
}

TEST(ChatTemplate, KnowsTheDate) {
  char year[8];
  const std::time_t now = std::time(nullptr);
  std::strftime(year, sizeof year, "%Y", std::localtime(&now));
  EXPECT_EQ(render("{{ strftime_now('%Y') }}"), year);
}

TEST(ChatTemplate, VariablesOfARenderingComeBeforeItsOwn) {
  const ChatTemplate chat("{{ a }}{{ b }}{{ tools is none }}{{ messages | length }}", {{"a", 1}, {"b", 2}});
  EXPECT_EQ(chat.render(Json::array(), false, {{"b", "x"}, {"messages", "not these"}}).text, "1xTrue0");
}

TEST(ChatTemplate, ComesFromAFolder) {
  const test::TemporaryFolder none;
  EXPECT_FALSE(ChatTemplate::from_folder(none.path()));
  none.write("tokenizer_config.json", R"({"bos_token": "<b>"})");
  EXPECT_FALSE(ChatTemplate::from_folder(none.path()));

  const auto text = [](const test::TemporaryFolder& folder) {
    return ChatTemplate::from_folder(folder.path())->render(Json::array(), false).text;
  };
  const test::TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"bos_token": {"content": "<b>", "lstrip": false}, "pad_token": null,
    "chat_template": "1{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}"})");
  folder.write("special_tokens_map.json", R"({"bos_token": "<other>", "eos_token": "<e>"})");
  EXPECT_EQ(text(folder), "1<other><e>False");  // the older file wins, as in transformers
  folder.write("chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(text(folder), "file <other>");

  const test::TemporaryFolder several;
  several.write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "no"},
    {"name": "default", "template": "yes"}]})");
  EXPECT_EQ(text(several), "yes");
  several.write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "no"}]})");
  EXPECT_THROW(ChatTemplate::from_folder(several.path()), Error);
  several.write("chat_template.jinja", "{% wat %}");
  try {
    ChatTemplate::from_folder(several.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(error.parts().where.ends_with("chat_template.jinja, line 1")) << error.parts().where;
  }
}

}  // namespace
}  // namespace deltaw

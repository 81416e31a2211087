// Answers in the words of every family's chat template.
#include <map>

#include "core/files.h"
#include "data/bytes.h"
#include "data/files.h"
#include "deltaw/chat.h"
#include "support/data.h"

namespace deltaw {
namespace {

using test::fixture;

class ChatAnswers : public test::Files {
 protected:
  /// The row, and nothing where the template refuses it.
  std::optional<TextExample> learned(const std::string& name, const Json& messages, const Json& row = Json::object()) {
    const ChatTemplate chat(read_file(fixture("text/fixtures/chat/" + name + ".jinja")), variables());
    Json all = row;
    all["messages"] = messages;
    try {
      return load_texts(
                 write("rows.jsonl", all.dump()), {}, {},
                 [&](const Json& list, bool prompt, const Json& more) { return chat.render(list, prompt, more); })
          .rows.at(0);
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  static const Json& oracle() {
    static const Json cases = read_json(fixture("text/fixtures/chat/cases.json"));
    return cases;
  }
  static const Json& variables() { return oracle()["variables"]; }

  static std::vector<std::string> parts(const TextExample& example) {
    std::vector<std::string> texts;
    for (const auto& [begin, end] : example.trained) texts.push_back(example.text.substr(begin, end - begin));
    return texts;
  }
};

const std::vector<std::string>& families() {
  static const std::vector<std::string> names = {
      "alpaca_olmo", "chatml", "command_r",    "deepseek_r1",   "gemma", "granite", "hermes_qwen2_5",   "llama2",
      "llama3",      "phi3",   "llama3_tools", "mistral_tools", "phi4",  "qwen2",   "qwen3_generation", "zephyr"};
  return names;
}

TEST_F(ChatAnswers, EveryAnswerIsLearnedInEveryFamily) {
  const Json messages = Json::parse(
      R"([{"role": "user", "content": "one?"}, {"role": "assistant", "content": "one"}, {"role": "user", "content": "one"},
          {"role": "assistant", "content": "one two"}, {"role": "user", "content": "end"}, {"role": "assistant", "content": "end"}])");
  int rendered = 0;
  for (const std::string& name : families()) {
    SCOPED_TRACE(name);
    const auto example = learned(name, messages);
    if (!example) continue;
    ++rendered;
    const std::vector<std::string> texts = parts(*example);
    ASSERT_EQ(texts.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      const auto said = messages[2 * i + 1]["content"].get<std::string>();
      EXPECT_NE(texts[i].find(said), std::string::npos) << texts[i];
      EXPECT_EQ(texts[i].find("one?"), std::string::npos) << texts[i];
      EXPECT_GT(texts[i].size(), said.size()) << "without an end: " << texts[i];
      EXPECT_EQ(texts[i].find("user"), std::string::npos) << texts[i];
    }
  }
  EXPECT_GE(rendered, 14);
}

TEST_F(ChatAnswers, ThoughtsThatATemplateLeavesOutDoNotHideTheAnswer) {
  const auto example = learned("deepseek_r1", oracle()["conversations"]["thinking"]["messages"]);
  ASSERT_TRUE(example);
  EXPECT_EQ(example->turns_left_out, 0);
  const std::vector<std::string> texts = parts(*example);
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0], "\n\n4<E>");
  EXPECT_EQ(texts[1], "6<E>");
}

TEST_F(ChatAnswers, NoAnswerIsLostInSilence) {
  for (const std::string& name : families()) {
    for (const auto& [title, conversation] : oracle()["conversations"].items()) {
      SCOPED_TRACE(name + ", " + title);
      int64_t answers = 0;
      for (const Json& message : conversation["messages"]) answers += message["role"] == "assistant";
      const auto example = learned(name, conversation["messages"]);
      if (!example || name == "qwen3_generation") continue;
      EXPECT_EQ(static_cast<int64_t>(example->trained.size()) + example->turns_left_out, answers);
      size_t last = 0;
      for (const auto& [begin, end] : example->trained) {
        EXPECT_GE(begin, last);
        EXPECT_GT(end, begin);
        last = end;
      }
    }
  }
}

}  // namespace
}  // namespace deltaw

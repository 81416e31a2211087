#include "data/conversation.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "core/json.h"
#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

constexpr const char* kShape = R"(Write each message as {"role": "user", "content": "..."} or {"from": "human", )"
                               R"("value": "..."}.)";

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& fix = kShape) {
  throw Error{{.id = "data.messages", .what = what, .where = where, .fix = fix}};
}

const std::map<std::string, std::string>& sharegpt_roles() {
  static const std::map<std::string, std::string> table = {
      {"human", "user"},          {"user", "user"},        {"gpt", "assistant"},
      {"assistant", "assistant"}, {"model", "assistant"},  {"system", "system"},
      {"tool", "tool"},           {"observation", "tool"}, {"function_response", "tool"},
  };
  return table;
}

Json from_sharegpt(const Json& message, const std::string& where) {
  const Json& from = message["from"];
  const auto role = from.is_string() ? sharegpt_roles().find(from.get<std::string>()) : sharegpt_roles().end();
  if (role == sharegpt_roles().end()) {
    std::vector<std::string> known;
    for (const auto& [name, unused] : sharegpt_roles()) known.push_back(name);
    refuse(fmt::format("\"from\" is {}", clipped(from.dump())), where,
           fmt::format("Use one of {}.", fmt::join(known, ", ")));
  }
  if (!message.contains("value") || !message["value"].is_string()) refuse("\"value\" is missing or no text", where);
  Json result = message;
  result.erase("from");
  result.erase("value");
  result["role"] = role->second;
  result["content"] = message["value"];
  return result;
}

void check_message(const Json& message, const std::string& where) {
  if (!message.contains("role") || !message["role"].is_string()) refuse("\"role\" is missing or no text", where);
  const bool has_content = message.contains("content") && !message["content"].is_null();
  if (!has_content && !message.contains("tool_calls")) refuse("\"content\" is missing", where);
  if (has_content && !message["content"].is_string() && !message["content"].is_array()) {
    refuse("\"content\" is neither a text nor a list of parts", where);
  }
}

bool is_answer(const Json& message) {
  return message["role"] == "assistant";
}

bool is_trained(const Json& message) {
  return !message.contains("weight") || message["weight"] != 0;
}

struct Conversation {
  const Json& messages;
  const Json& variables;
  const ChatRenderer& render;
  std::string where;

  /// The first `count` messages.
  std::string text(size_t count, bool prompt) const {
    if (count == 0) return opening();
    Json part = Json::array();
    for (size_t i = 0; i < count; ++i) part.push_back(messages[i]);
    return render(part, prompt, variables).text;
  }

  /// What stands before a conversation that the assistant begins.
  std::string opening() const {
    try {
      return render(Json::array(), true, variables).text;
    } catch (const Error& error) {
      throw Error{{.id = "data.messages",
                   .what = fmt::format("the assistant speaks first, and the template has no prompt for that: {}",
                                       error.parts().what),
                   .where = where,
                   .fix = "Begin the conversation with a message of the user."}};
    }
  }
};

size_t common_prefix(const std::string& a, const std::string& b) {
  const auto differs = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(differs.first - a.begin());
}

std::string trimmed_content(const Json& message) {
  if (!message.contains("content") || !message["content"].is_string()) return {};
  const auto text = message["content"].get<std::string>();
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string::npos ? std::string() : text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

/// Where the turn `i` ends in `full`, given a rendering that stops there and says something else from `common` on, as
/// Phi-3's does, which closes a text with its end token. Both may begin a mark alike ("<|"), hence the way back to
/// where the last mark or line closed. Nothing where the answer is not whole by then.
std::optional<size_t> end_of_turn(const std::string& full, size_t begin, size_t common, const Json& message) {
  const std::string content = trimmed_content(message);
  const size_t at = content.empty() ? std::string::npos : full.find(content, begin);
  if (at == std::string::npos || at + content.size() > common) return std::nullopt;
  size_t end = common;
  while (end > at + content.size() && std::string(">]\n").find(full[end - 1]) == std::string::npos) --end;
  return end;
}

/// What rendering up to and with message `i` adds to the prompt for it, where `full` says the same.
std::optional<std::pair<size_t, size_t>> turn(const Conversation& conversation, size_t i, const std::string& full) {
  const std::string before = conversation.text(i, true);
  if (!full.starts_with(before)) return std::nullopt;
  if (i + 1 == conversation.messages.size()) return std::pair(before.size(), full.size());
  const std::string after = conversation.text(i + 1, false);
  const size_t common = common_prefix(after, full);
  if (common == after.size()) {
    return after.starts_with(before) ? std::optional(std::pair(before.size(), after.size())) : std::nullopt;
  }
  const auto end = end_of_turn(full, before.size(), common, conversation.messages[i]);
  return end ? std::optional(std::pair(before.size(), *end)) : std::nullopt;
}

void add_marked(TextExample& example, const ByteRanges& marked, const Json& messages, size_t first,
                const std::string& where) {
  std::vector<bool> wanted;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (is_answer(messages[i])) wanted.push_back(i >= first && is_trained(messages[i]));
  }
  if (std::find(wanted.begin(), wanted.end(), false) == wanted.end()) {
    example.trained = marked;
    return;
  }
  if (marked.size() != wanted.size()) {
    throw Error{
        {.id = "data.chat-template",
         .what = fmt::format("the template marks {} generated parts for {} answers, of which some are not to be "
                             "trained on",
                             marked.size(), wanted.size()),
         .where = where,
         .fix = "Mark each answer of the template by one {% generation %} block."}};
  }
  for (size_t k = 0; k < marked.size(); ++k) {
    if (wanted[k]) example.trained.push_back(marked[k]);
  }
}

void add_turns(TextExample& example, const Conversation& conversation, size_t first) {
  size_t lost = 0;
  for (size_t i = first; i < conversation.messages.size(); ++i) {
    if (!is_answer(conversation.messages[i]) || !is_trained(conversation.messages[i])) continue;
    const auto range = turn(conversation, i, example.text);
    if (range && range->second > range->first) {
      example.trained.push_back(*range);
    } else {
      ++example.turns_left_out;
      lost = i + 1;
    }
  }
  if (!example.trained.empty()) return;
  throw Error{
      {.id = "data.chat-template",
       .what = fmt::format("the chat template writes the answer in message {} otherwise than its own prompt for "
                           "an answer begins, so the two cannot be told apart",
                           lost),
       .where = conversation.where,
       .fix = "Mark the answers in the template by {% generation %} ... {% endgeneration %} and name it as "
              "chat_template, or write rows with prompt and completion."}};
}

}  // namespace

Json to_messages(const Json& list, const std::string& where) {
  if (!list.is_array() || list.empty()) refuse("the conversation is no list of messages, or an empty one", where);
  Json messages = Json::array();
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string here = fmt::format("{}, message {}", where, i + 1);
    if (!list[i].is_object()) refuse(fmt::format("expected an object, found {}", list[i].type_name()), here);
    Json message = list[i].contains("from") && !list[i].contains("role") ? from_sharegpt(list[i], here) : list[i];
    check_message(message, here);
    messages.push_back(std::move(message));
  }
  return messages;
}

Json template_variables(const Json& row, const std::string& where) {
  Json variables = Json::object();
  if (row.contains("chat_template_kwargs") && row["chat_template_kwargs"].is_object()) {
    variables = row["chat_template_kwargs"];
  }
  if (!row.contains("tools") || row["tools"].is_null()) return variables;
  Json tools = row["tools"];
  if (tools.is_string()) tools = parse_json(tools.get<std::string>(), where + ", tools");
  if (!tools.is_array()) refuse("\"tools\" is no list", where, "Make it a list of functions as OpenAI describes them.");
  if (!tools.empty()) variables["tools"] = std::move(tools);
  return variables;
}

TextExample render_conversation(const Json& messages, size_t first, const Json& variables, const ChatRenderer& render,
                                const std::string& where) {
  if (!render) {
    throw Error{{.id = "config.no-chat-template",
                 .what = "the rows are conversations and the model has no chat template",
                 .where = where,
                 .fix = "Set chat_template to a Jinja file, or use the model's instruct variant."}};
  }
  bool answered = false;
  for (size_t i = first; i < messages.size(); ++i) {
    answered = answered || (is_answer(messages[i]) && is_trained(messages[i]));
  }
  if (!answered) {
    refuse("the assistant says nothing that is to be trained on", where,
           "Give every conversation a message of the role assistant, or remove the row.");
  }
  const ChatTemplate::Rendered rendered = render(messages, false, variables);
  TextExample example{.text = rendered.text, .add_special_tokens = false, .answers = true};
  if (!rendered.generated.empty()) {
    add_marked(example, rendered.generated, messages, first, where);
  } else {
    add_turns(example, {messages, variables, render, where}, first);
  }
  return example;
}

}  // namespace deltaw::data

#include "data/conversation.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "core/ascii.h"
#include "core/json.h"
#include "data/answer_ranges.h"
#include "data/sharegpt.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

constexpr const char* kShape = R"(Write each message as {"role": "user", "content": "..."} or {"from": "human", )"
                               R"("value": "..."}.)";

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& fix = kShape) {
  throw Error{{.id = "data.messages", .what = what, .where = where, .fix = fix}};
}

/// Null counts as absent, in messages as in rows.
bool has(const Json& object, const char* key) {
  return object.contains(key) && !object[key].is_null();
}

void check_message(const Json& message, const std::string& where) {
  if (!has(message, "role") || !message["role"].is_string()) refuse("\"role\" is missing or no text", where);
  if (!has(message, "content")) {
    if (has(message, "tool_calls")) return;
    refuse(message.contains("content") ? "\"content\" is null" : "\"content\" is missing", where);
  }
  if (!message["content"].is_string() && !message["content"].is_array()) {
    refuse("\"content\" is neither a text nor a list of parts", where);
  }
}

bool is_answer(const Json& message) {
  return message["role"] == "assistant";
}

/// Mistral's "weight": 0 and axolotl's "train": false say that a message is only read.
bool is_trained(const Json& message) {
  const auto is_off = [&](const char* key) {
    return message.contains(key) && (message[key] == 0 || message[key] == false);
  };
  return !is_off("weight") && !is_off("train");
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

void add_turns(TextExample& example, const Conversation& conversation, size_t first, const std::string& where) {
  size_t lost = 0;
  for (size_t i = first; i < conversation.messages.size(); ++i) {
    if (!is_answer(conversation.messages[i]) || !is_trained(conversation.messages[i])) continue;
    const auto range = find_answer(conversation, i, example.text);
    if (range && (example.trained.empty() || range->first >= example.trained.back().second)) {
      example.trained.push_back(*range);
    } else {
      ++example.turns_left_out;
      lost = i + 1;
    }
  }
  if (!example.trained.empty()) return;
  throw Error{{.id = "data.chat-template",
               .what = fmt::format("the answer in message {} does not stand word for word in what the chat template "
                                   "writes, so it cannot be told from the rest",
                                   lost),
               .where = where,
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
    Json message = has(list[i], "from") && !has(list[i], "role") ? from_sharegpt(list[i], here) : list[i];
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
  if (!has(row, "tools")) return variables;
  Json tools = row["tools"];
  if (tools.is_string() && is_blank(tools.get<std::string>())) return variables;
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
    add_turns(example, {messages, variables, render}, first, where);
  }
  return example;
}

}  // namespace deltaw::data

#include "data/sharegpt.h"

#include <map>
#include <set>

#include <fmt/format.h>

#include "core/json.h"
#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

/// The names of LLaMA-Factory, axolotl, ms-swift and of the first sharegpt files.
const std::map<std::string, std::string>& roles() {
  static const std::map<std::string, std::string> table = {
      {"human", "user"},
      {"user", "user"},
      {"gpt", "assistant"},
      {"assistant", "assistant"},
      {"model", "assistant"},
      {"chatgpt", "assistant"},
      {"bing", "assistant"},
      {"bard", "assistant"},
      {"function_call", "assistant"},
      {"tool_call", "assistant"},
      {"system", "system"},
      {"tool", "tool"},
      {"observation", "tool"},
      {"function_response", "tool"},
      {"tool_response", "tool"},
  };
  return table;
}

bool is_call(const std::string& role) {
  return role == "function_call" || role == "tool_call";
}

bool is_marked(const Json& message) {
  return message.contains("from") && message["from"].is_string() && is_call(message["from"].get<std::string>()) &&
         message["content"].is_string();
}

[[noreturn]] void refuse_turn(const std::string& what, const std::string& where, const std::string& fix) {
  throw Error{{.id = "data.messages", .what = what, .where = where, .fix = fix}};
}

/// {"name": ..., "arguments": ...} or a list of them, as OpenAI's tool_calls. The ids are of the kind that Mistral's
/// template asks for. Null where the text is none of these.
Json calls_of(const std::string& text, size_t message) {
  Json value;
  try {
    value = parse_json(text, "function_call");
  } catch (const Error&) {
    return nullptr;
  }
  if (!value.is_array()) value = Json::array({value});
  Json calls = Json::array();
  for (const Json& call : value) {
    if (!call.is_object() || !call.contains("name") || !call["name"].is_string()) return nullptr;
    const Json arguments = call.contains("arguments") ? call["arguments"] : Json::object();
    calls.push_back({{"id", fmt::format("call{:03d}{:02d}", message % 1000, calls.size() % 100)},
                     {"type", "function"},
                     {"function", {{"name", call["name"]}, {"arguments", arguments}}}});
  }
  return calls.empty() ? Json() : calls;
}

/// The tools' messages after message `i` answer its calls, in order.
void name_answers(Json& messages, size_t i) {
  const Json calls = messages[i]["tool_calls"];
  for (size_t k = 0; k < calls.size() && i + 1 + k < messages.size(); ++k) {
    Json& answer = messages[i + 1 + k];
    if (answer["role"] != "tool") return;
    if (!answer.contains("tool_call_id")) answer["tool_call_id"] = calls[k]["id"];
    if (!answer.contains("name")) answer["name"] = calls[k]["function"]["name"];
  }
}

/// Whether the template writes what `with` has in tool_calls. Another name is written otherwise, a key that nobody
/// reads is not.
bool writes_calls(const Json& with, const std::set<size_t>& at, const Json& variables, const ChatRenderer& render) {
  Json other = with;
  for (const size_t i : at) {
    for (Json& call : other[i]["tool_calls"]) {
      call["function"]["name"] = call["function"]["name"].get<std::string>() + "_x";
    }
  }
  try {
    return render(with, false, variables).text != render(other, false, variables).text;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Json from_sharegpt(const Json& message, const std::string& where) {
  const Json& from = message["from"];
  const auto role = from.is_string() ? roles().find(from.get<std::string>()) : roles().end();
  if (role == roles().end()) {
    std::vector<std::string> known;
    for (const auto& [name, unused] : roles()) known.push_back(name);
    refuse_turn(fmt::format("\"from\" is {}", clipped(from.dump())), where,
                fmt::format("Use one of {}.", fmt::join(known, ", ")));
  }
  if (!message.contains("value") || !message["value"].is_string()) {
    const bool null = message.contains("value") && message["value"].is_null();
    refuse_turn(null ? "\"value\" is null" : "\"value\" is missing or no text", where,
                R"(Write each message as {"from": "human", "value": "..."}.)");
  }
  Json result = message;
  if (!is_call(role->first)) result.erase("from");
  result.erase("value");
  result["role"] = role->second;
  result["content"] = message["value"];
  return result;
}

void settle_calls(Json& messages, const Json& variables, const ChatRenderer& render) {
  std::set<size_t> at;
  Json with = messages;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_marked(messages[i])) continue;
    const Json calls = calls_of(messages[i]["content"].get<std::string>(), i);
    messages[i].erase("from");
    with[i].erase("from");
    if (calls.is_null()) continue;
    with[i]["content"] = "";
    with[i]["tool_calls"] = calls;
    at.insert(i);
  }
  for (const size_t i : at) name_answers(with, i);
  if (!at.empty() && render && writes_calls(with, at, variables, render)) messages = std::move(with);
}

}  // namespace deltaw::data

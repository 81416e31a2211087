#include "data/content_parts.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "core/json.h"
#include "data/table.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

bool is_list_of_parts(const Json& message) {
  return message.contains("content") && message["content"].is_array();
}

bool is_text_part(const Json& part) {
  return part.is_object() && part.value("type", Json("text")) == "text" && part.contains("text") &&
         part["text"].is_string();
}

/// The same conversation, every text part of its lists a word.
Json with_word(Json messages, const std::string& word) {
  for (Json& message : messages) {
    if (!is_list_of_parts(message)) continue;
    for (Json& part : message["content"]) {
      if (is_text_part(part)) part["text"] = word;
    }
  }
  return messages;
}

/// The same conversation, a text in place of each list: its own or `word`.
Json with_texts(Json messages, const std::optional<std::string>& word = std::nullopt) {
  for (Json& message : messages) {
    if (!is_list_of_parts(message)) continue;
    std::string text;
    for (const Json& part : message["content"]) {
      if (is_text_part(part)) text += part["text"].get<std::string>();
    }
    message["content"] = word.value_or(text);
  }
  return messages;
}

/// Whether the template writes the word, and not within a list that it shows as it stands.
bool writes(const Json& messages, const std::string& word, const Json& variables, const ChatRenderer& render) {
  try {
    const std::string text = render(messages, false, variables).text;
    const auto has = [&](const std::string& part) { return text.find(part) != std::string::npos; };
    return has(word) && !has("'text': '" + word) && !has("\"text\": \"" + word);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void settle_parts(Json& messages, const Json& variables, const ChatRenderer& render, const std::string& where) {
  if (!render || std::none_of(messages.begin(), messages.end(), is_list_of_parts)) return;
  const std::string word = "partxq";
  if (writes(with_word(messages, word), word, variables, render)) return;
  if (!writes(with_texts(messages, word), word, variables, render)) return;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_list_of_parts(messages[i])) continue;
    for (const Json& part : messages[i]["content"]) {
      if (is_text_part(part)) continue;
      throw Error{{.id = "data.messages",
                   .what = fmt::format("\"content\" has a part that is no text: {}", clipped(part.dump())),
                   .where = fmt::format("{}, message {}", where, i + 1),
                   .fix =
                       R"(Language models read text alone: write parts as {"type": "text", "text": "..."}, or remove )"
                       "the row."}};
    }
  }
  messages = with_texts(std::move(messages));
}

}  // namespace deltaw::data

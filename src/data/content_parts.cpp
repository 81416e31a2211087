#include "data/content_parts.h"

#include <algorithm>

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

/// The same conversation, of(list) in place of each list of parts.
template <class Of>
Json with_contents(Json messages, const Of& of) {
  for (Json& message : messages) {
    if (is_list_of_parts(message)) message["content"] = of(message["content"]);
  }
  return messages;
}

std::string joined_texts(const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    if (is_text_part(part)) text += part["text"].get<std::string>();
  }
  return text;
}

/// The same parts, each text the word.
Json filled(Json parts, const std::string& word) {
  for (Json& part : parts) {
    if (is_text_part(part)) part["text"] = word;
  }
  return parts;
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
  const auto takes = [&](const auto& of) { return writes(with_contents(messages, of), word, variables, render); };
  if (takes([&](const Json& parts) { return filled(parts, word); })) return;
  if (!takes([&](const Json&) { return word; })) return;
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
  messages = with_contents(std::move(messages), joined_texts);
}

}  // namespace deltaw::data

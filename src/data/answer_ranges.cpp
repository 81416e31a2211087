#include "data/answer_ranges.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/ascii.h"
#include "data/labels.h"
#include "deltaw/error.h"

namespace deltaw::data {
namespace {

using Range = std::pair<size_t, size_t>;

constexpr std::string_view kThoughtEnd = "</think>";

size_t common_prefix(std::string_view a, std::string_view b) {
  const auto differs = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(differs.first - a.begin());
}

/// What the message says, a list of parts put together.
std::string content_of(const Json& message) {
  if (!message.contains("content")) return {};
  const Json& content = message["content"];
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  for (const Json& part : content) {
    if (part.is_object() && part.contains("text") && part["text"].is_string()) text += part["text"].get<std::string>();
  }
  return text;
}

/// The length of `common` less what follows the last mark or line that closed in it, but not below `least`: two texts
/// may begin a mark alike ("<|").
size_t whole_marks(std::string_view text, size_t common, size_t least) {
  while (common > least && std::string_view(">]\n").find(text[common - 1]) == std::string_view::npos) --common;
  return common;
}

/// Where the turn `i` ends in `full`, given a rendering that stops there and says something else from `common` on, as
/// Phi-3's does, which closes a text with its end token. Nothing where the answer is not whole by then.
std::optional<size_t> end_of_turn(const std::string& full, size_t begin, size_t common, const Json& message) {
  if (message.contains("content") && !message["content"].is_string()) return std::nullopt;
  const std::string said = content_of(message);
  const std::string_view content = trimmed(said);
  const size_t at = content.empty() ? std::string::npos : full.find(content, begin);
  if (at == std::string::npos || at + content.size() > common) return std::nullopt;
  return whole_marks(full, common, at + content.size());
}

/// What rendering up to and with message `i` adds to `prompt`, where `full` says the same.
std::optional<Range> added(const Conversation& conversation, size_t i, const std::string& prompt,
                           const std::string& full) {
  if (i + 1 == conversation.messages.size()) {
    return prompt.size() < full.size() ? std::optional(Range(prompt.size(), full.size())) : std::nullopt;
  }
  const std::string after = conversation.text(i + 1, false);
  const size_t common = common_prefix(after, full);
  if (common == after.size()) {
    const bool adds = after.starts_with(prompt) && after.size() > prompt.size();
    return adds ? std::optional(Range(prompt.size(), after.size())) : std::nullopt;
  }
  const auto end = end_of_turn(full, prompt.size(), common, conversation.messages[i]);
  return end ? std::optional(Range(prompt.size(), *end)) : std::nullopt;
}

/// A word that is nowhere in `text`.
std::string absent_word(const std::string& text) {
  std::string word = "answerxq";
  while (text.find(word) != std::string::npos) word += "xq";
  return word;
}

/// The text on either side of a word that stands in it once.
std::optional<std::pair<std::string, std::string>> sides_of(const std::string& text, const std::string& word) {
  const size_t at = text.find(word);
  if (at == std::string::npos || text.find(word, at + 1) != std::string::npos) return std::nullopt;
  return std::pair(text.substr(0, at), text.substr(at + word.size()));
}

/// What must stand in the text where an answer does: the words after its thought, and the names that it calls.
struct Said {
  std::string content;          // with the thought
  std::string_view words = {};  // of it
  std::vector<std::string> calls = {};

  explicit Said(const Json& message) : content(content_of(message)) {
    const size_t thought = content.rfind(kThoughtEnd);
    const std::string_view all = content;
    if (thought != std::string::npos) words = trimmed(all.substr(thought + kThoughtEnd.size()));
    if (words.empty()) words = trimmed(all);
    if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) return;
    for (const Json& call : message["tool_calls"]) {
      const Json& function = call.is_object() && call.contains("function") ? call["function"] : call;
      if (function.is_object() && function.contains("name") && function["name"].is_string()) {
        calls.push_back(function["name"].get<std::string>());
      }
    }
  }
  Said(const Said&) = delete;  // `words` lie in `content`
  Said& operator=(const Said&) = delete;

  bool nothing() const { return words.empty() && calls.empty(); }
  std::string thought() const {
    return words.empty() ? std::string() : content.substr(0, static_cast<size_t>(words.data() - content.data()));
  }
  bool is_in(std::string_view text) const {
    return text.find(words) != std::string_view::npos &&
           std::all_of(calls.begin(), calls.end(),
                       [&](const std::string& name) { return text.find(name) != std::string_view::npos; });
  }
};

/// Where `said` stands in `full`, given the same conversations with `word` in its place: `whole`, and `until` which
/// ends with the turn.
std::optional<Range> between(const std::string& full, const Said& said, const std::string& word,
                             const std::string& whole, const std::string& until) {
  const auto sides = sides_of(whole, word), turn = sides_of(until, word);
  if (!sides || !turn) return std::nullopt;
  const auto& [before, after] = *sides;
  if (before.size() + after.size() > full.size() || !full.starts_with(before) || !full.ends_with(after)) {
    return std::nullopt;
  }
  const size_t end = full.size() - after.size();
  if (!said.is_in(std::string_view(full).substr(before.size(), end - before.size()))) return std::nullopt;
  const size_t common = common_prefix(after, turn->second);
  const bool is_whole = common == turn->second.size();
  return Range(before.size(), end + (is_whole ? common : whole_marks(after, common, 0)));
}

/// Looks for the answer by writing another in its place: what is the same on either side is not the answer's.
std::optional<Range> searched(const Conversation& conversation, size_t i, const std::string& full) {
  const Said said(conversation.messages[i]);
  if (said.nothing()) return std::nullopt;
  const std::string word = absent_word(full), thought = said.thought();
  for (const std::string& stand_in : {word, thought + word}) {
    Json messages = conversation.messages;
    messages[i].erase("tool_calls");
    messages[i]["content"] = stand_in;
    const Conversation other{messages, conversation.variables, conversation.render};
    try {
      const std::string whole = other.text(messages.size(), false), until = other.text(i + 1, false);
      if (const auto range = between(full, said, word, whole, until)) return range;
    } catch (const Error&) {  // a template may refuse what is cut off there
    }
    if (thought.empty()) break;
  }
  return std::nullopt;
}

}  // namespace

std::string Conversation::text(size_t count, bool prompt) const {
  Json part = Json::array();
  for (size_t i = 0; i < count; ++i) part.push_back(messages[i]);
  return render(part, prompt, variables).text;
}

std::optional<Range> find_answer(const Conversation& conversation, size_t i, const std::string& full) {
  std::optional<std::string> prompt;
  try {
    prompt = conversation.text(i, true);
    if (!full.starts_with(*prompt)) prompt.reset();
    if (const auto range = prompt ? added(conversation, i, *prompt, full) : std::nullopt) return range;
  } catch (const Error&) {  // some templates have no prompt before a first message, or refuse a part of a conversation
  }
  auto range = searched(conversation, i, full);
  // What stands between the prompt and the answer is for the model to say.
  if (range && prompt && prompt->size() < range->second) range->first = prompt->size();
  return range;
}

}  // namespace deltaw::data

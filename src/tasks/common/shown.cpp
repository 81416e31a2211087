#include "tasks/common/shown.h"

#include <fmt/format.h>

#include "core/progress.h"
#include "text/tokenizer/unicode.h"

namespace deltaw::tasks {

std::string count_text(const Json& value) {
  return format_count(value.get<int64_t>());
}

std::string first_words(const Json& list, size_t most) {
  std::string line;
  for (size_t i = 0; i < list.size() && i < most; ++i) {
    if (i > 0) line += ' ';
    line += list[i].get<std::string>();
  }
  if (list.size() > most) line += fmt::format(" ... ({} in all)", list.size());
  return line;
}

std::string shortened(const std::string& text, size_t most) {
  const auto inside = [&](size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  std::string part = text;
  if (text.size() > 2 * most) {
    size_t head = most, tail = text.size() - most;
    while (inside(head)) --head;
    while (inside(tail)) ++tail;
    part = text.substr(0, head) + " ... " + text.substr(tail);
  }
  std::string line;
  for (const char c : part) {
    if (c == '\n') {
      line += "\\n";
    } else {
      line += c;
    }
  }
  return line;
}

std::string slice(const std::string& text, int64_t begin, int64_t end) {
  size_t at = 0, from = text.size();
  int64_t place = 0;
  for (; at < text.size() && place < end; ++place) {
    if (place == begin) from = at;
    at += text::width(text[at]);
  }
  return from < at ? text.substr(from, at - from) : std::string();
}

Json token_names(const std::vector<int64_t>& ids, const Tokenizer& tokenizer) {
  Json tokens = Json::array();
  for (const int64_t id : ids) tokens.push_back(tokenizer.id_to_token(id).value_or("?"));
  return tokens;
}

}  // namespace deltaw::tasks

#include "tasks/common/shown.h"

#include <fmt/format.h>

#include "core/progress.h"

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

Json token_names(const std::vector<int64_t>& ids, const Tokenizer& tokenizer) {
  Json tokens = Json::array();
  for (const int64_t id : ids) tokens.push_back(tokenizer.id_to_token(id).value_or("?"));
  return tokens;
}

}  // namespace deltaw::tasks

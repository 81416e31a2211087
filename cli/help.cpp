#include <fmt/format.h>

#include <algorithm>

#include "options.h"
#include "output.h"

namespace deltaw::cli {
namespace {

constexpr size_t kWidth = 80;
constexpr size_t kColumn = 30;

/// `text` in lines of at most kWidth, the first one begun at column `from`, the others at `indent`.
std::string wrapped(const std::string& text, size_t from, size_t indent) {
  std::string result;
  size_t column = from;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    begin = end + 1;
    if (column > indent && column + 1 + word.size() > kWidth) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += " ";
      ++column;
    }
    result += word;
    column += word.size();
  }
  return result;
}

std::string default_text(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() || value.is_object()) return value.empty() ? "" : value.dump();
  return value.dump();
}

std::string key_help(const FieldInfo& key) {
  std::string type = key.type;
  std::transform(type.begin(), type.end(), type.begin(), [](char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; });
  std::string line = fmt::format("  --{} {}", key.name, type);
  std::string notes = key.range;
  const std::string value = default_text(key.default_value);
  if (!value.empty()) notes += (notes.empty() ? "default " : "; default ") + value;
  const std::string text = key.help + (notes.empty() ? "" : " (" + notes + ")");
  if (line.size() + 2 > kColumn) {
    line += "\n" + std::string(kColumn, ' ');
  } else {
    line += std::string(kColumn - line.size(), ' ');
  }
  return line + wrapped(text, kColumn, kColumn) + "\n";
}

}  // namespace

void print_help(const Usage& usage, const std::vector<Section>& sections) {
  std::string text = wrapped(usage.what, 0, 0) + "\n\nUsage: deltaw " + usage.verb;
  if (!usage.positional.empty()) text += " [" + usage.positional + "]";
  text += " [--key value ...]\n\nExample:\n" + usage.example + "\n";
  if (!usage.positional.empty()) {
    text += "\n  " + usage.positional + std::string(kColumn - 2 - std::min(usage.positional.size(), kColumn - 3), ' ') +
            wrapped(usage.positional_help, kColumn, kColumn) + "\n";
  }
  for (const Section& section : sections) {
    if (!section.listed || section.keys.empty()) continue;
    text += "\n" + section.title + ":\n";
    for (const FieldInfo& key : section.keys) text += key_help(key);
  }
  text += "\nExit codes: " + wrapped(usage.exit_codes + ".", 12, 2) + "\n";
  print(text);
}

}  // namespace deltaw::cli

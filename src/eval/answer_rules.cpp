#include "eval/answer_rules.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

namespace deltaw::eval {
namespace {

constexpr double kTolerance = 0.001;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string without(std::string_view text, std::string_view dropped) {
  std::string rest;
  std::copy_if(text.begin(), text.end(), std::back_inserter(rest),
               [&](char c) { return dropped.find(c) == std::string_view::npos; });
  return rest;
}

/// Where the run of characters for which `is_in` holds ends.
template <class IsIn>
size_t run_end(std::string_view text, size_t at, const IsIn& is_in) {
  while (at < text.size() && is_in(text[at])) ++at;
  return at;
}

/// The last of -?\d+\.?\d*, commas aside.
std::string last_number(std::string_view spoken) {
  const std::string text = without(spoken, ",");
  std::string last;
  for (size_t at = 0; at < text.size();) {
    const size_t digits = text[at] == '-' ? at + 1 : at;
    size_t end = run_end(text, digits, is_digit);
    if (end == digits) {
      ++at;
      continue;
    }
    if (end < text.size() && text[end] == '.') end = run_end(text, end + 1, is_digit);
    last = text.substr(at, end - at);
    at = end;
  }
  return last;
}

std::string first_of(const std::vector<std::string>& words, std::string_view text) {
  size_t first = std::string_view::npos;
  std::string found;
  for (const std::string& word : words) {
    const size_t at = text.find(word);
    if (at < first) {
      first = at;
      found = word;
    }
  }
  return found;
}

std::vector<std::string> all_words() {
  std::vector<std::string> words;
  for (const TextTask& task : text_task_table()) words.insert(words.end(), task.answers.begin(), task.answers.end());
  return words;
}

std::optional<double> value_of(const std::string& text) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string find_answer(const TextTask& task, std::string_view text) {
  switch (task.kind) {
    case AnswerKind::word:
      return first_of(task.answers.empty() ? all_words() : task.answers, text);
    case AnswerKind::letter: {
      const size_t at = text.find_first_of("ABCDE");
      return at == std::string_view::npos ? std::string() : std::string(1, text[at]);
    }
    default:
      return last_number(text);
  }
}

bool is_right(const TextTask& task, const std::string& found, const std::string& answer) {
  if (found.empty()) return false;
  if (task.kind != AnswerKind::number) return found == answer;
  const std::optional<double> a = value_of(found), b = value_of(answer);
  return a && b && std::abs(*a - *b) <= kTolerance;
}

// #### (\-?[0-9\.\,]+)
std::string strict_number(std::string_view text) {
  constexpr std::string_view kMark = "#### ";
  for (size_t at = text.find(kMark); at != std::string_view::npos; at = text.find(kMark, at + 1)) {
    const size_t begin = at + kMark.size();
    const size_t digits = begin < text.size() && text[begin] == '-' ? begin + 1 : begin;
    const size_t end = run_end(text, digits, [](char c) { return is_digit(c) || c == '.' || c == ','; });
    if (end > digits) return std::string(text.substr(begin, end - begin));
  }
  return {};
}

// (-?[$0-9.,]{2,})|(-?[0-9]+)
std::string flexible_number(std::string_view text) {
  std::string last;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text[at] == '-' ? at + 1 : at;
    const size_t end = run_end(text, begin, [](char c) { return is_digit(c) || c == '$' || c == '.' || c == ','; });
    const bool matches = end - begin >= 2 || (end - begin == 1 && is_digit(text[begin]));
    if (matches) last = text.substr(at, end - at);
    at = matches ? end : at + 1;
  }
  return last;
}

bool same_number(std::string_view found, std::string_view answer) {
  const auto plain = [](std::string_view text) {
    std::string rest = without(text, ",$");
    if (rest.ends_with('.')) rest.pop_back();
    return rest;
  };
  return !found.empty() && plain(found) == plain(answer);
}

}  // namespace deltaw::eval

// Nearest names: what somebody who wrote `lerning-rate` may have meant.
#include <algorithm>
#include <cctype>

#include "core/suggest.h"
#include "deltaw/options.h"

namespace deltaw {
namespace {

constexpr size_t kFar = 1000;

/// Lower case, words between single underscores.
std::string plain(const std::string& name) {
  std::string text;
  for (const char symbol : name) {
    const auto byte = static_cast<unsigned char>(symbol);
    const bool separator = symbol == '-' || symbol == '_' || symbol == '.' || symbol == ' ';
    if (!separator) text += static_cast<char>(std::tolower(byte));
    if (separator && !text.empty() && text.back() != '_') text += '_';
  }
  if (!text.empty() && text.back() == '_') text.pop_back();
  return text;
}

std::string squeezed(std::string text) {
  std::erase(text, '_');
  return text;
}

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char symbol : text) {
    if (symbol == '_')
      parts.emplace_back();
    else
      parts.back() += symbol;
  }
  return parts;
}

/// Insertions, deletions, replacements and swaps of neighbours.
size_t edit_distance(const std::string& a, const std::string& b) {
  const size_t columns = b.size() + 1;
  std::vector<size_t> before(columns), last(columns), row(columns);
  for (size_t j = 0; j < columns; ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j < columns; ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[columns - 1];
}

/// Equal, or `target` beside `targets`.
bool alike(const std::string& a, const std::string& b) {
  constexpr size_t kStem = 4;
  if (std::min(a.size(), b.size()) < kStem) return a == b;
  return a.starts_with(b) || b.starts_with(a);
}

/// Whether every word of `few` comes in `many`, in this order.
bool contains_words(const std::vector<std::string>& many, const std::vector<std::string>& few) {
  size_t next = 0;
  for (const std::string& word : many) {
    if (next < few.size() && alike(word, few[next])) ++next;
  }
  return next == few.size();
}

size_t cost(const std::string& name, const std::string& known) {
  const std::string a = plain(name), b = plain(known);
  const std::string x = squeezed(a), y = squeezed(b);
  if (x.empty() || y.empty()) return kFar;
  if (x == y) return 0;
  const auto a_words = words(a), b_words = words(b);
  size_t best = kFar;

  const size_t distance = edit_distance(a, b);
  const size_t longest = std::max(a.size(), b.size());
  if (distance <= longest / 3 || (distance == 1 && longest == 2)) best = distance;

  const std::string& shorter = x.size() < y.size() ? x : y;
  const std::string& longer = x.size() < y.size() ? y : x;
  const bool part = longer.starts_with(shorter) || longer.ends_with(shorter);
  if (part && shorter.size() >= 3) best = std::min<size_t>(best, 1);
  if (contains_words(a_words, b_words) || contains_words(b_words, a_words)) best = std::min<size_t>(best, 2);
  // `rank` for `r`: a known name of one letter is the first of a word.
  if (y.size() == 1 && a_words.back()[0] == y[0]) best = std::min<size_t>(best, 3);
  return best;
}

}  // namespace

std::vector<std::string> nearest_names(const std::string& name, const std::vector<std::string>& known) {
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const std::string& candidate : known) {
    const size_t value = cost(name, candidate);
    if (value != kFar) ranked.emplace_back(value, candidate);
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (const auto& [value, candidate] : ranked) {
    if (names.size() == 3 || value > ranked.front().first + 1) break;
    if (std::find(names.begin(), names.end(), candidate) == names.end()) names.push_back(candidate);
  }
  return names;
}

std::string suggest_names(const std::string& name, const std::vector<std::string>& known) {
  constexpr size_t kShortList = 15;
  const std::vector<std::string> near = nearest_names(name, known);
  std::string text;
  if (!near.empty()) {
    for (size_t i = 0; i < near.size(); ++i) {
      if (i > 0) text += i + 1 == near.size() ? " or " : ", ";
      text += "'" + near[i] + "'";
    }
    return "did you mean " + text + "?";
  }
  if (known.empty() || known.size() > kShortList) return "";
  for (const std::string& candidate : known) text += (text.empty() ? "known: " : ", ") + candidate;
  return text;
}

std::string suggest_names(const std::string& name, const std::vector<std::string>& known, const std::string& more) {
  const std::string text = suggest_names(name, known);
  if (text.empty()) return more;
  return text + (text.ends_with('?') ? " " : "; ") + more;
}

}  // namespace deltaw

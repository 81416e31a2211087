#include "tasks/question_ans/squad.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "text/tokenizer/unicode.h"

namespace deltaw::question_ans {
namespace {

bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

std::string bare_lower(const std::string& text) {
  std::string bare;
  for (size_t at = 0; at < text.size();) {
    const text::CodePoint c = text::decode(text, at);
    at += c.bytes;
    char32_t second = 0;
    const char32_t lower = text::to_lower(c.value, second);
    if (!is_ascii_punctuation(lower)) text::append(bare, lower);
    if (second != 0) text::append(bare, second);
  }
  return bare;
}

/// An article is a run of letters by itself, whatever stands around it.
bool is_article(std::string_view run) {
  return run == "a" || run == "an" || run == "the";
}

std::vector<std::string> words_of(const std::string& text) {
  const std::string bare = bare_lower(text);
  std::vector<std::string> words(1);
  std::string run;
  const auto end_run = [&](bool ends_word) {
    if (is_article(run)) {
      ends_word = true;
      if (!words.back().empty()) words.emplace_back();
    } else {
      words.back() += run;
    }
    run.clear();
    if (ends_word && !words.back().empty()) words.emplace_back();
  };
  for (size_t at = 0; at < bare.size();) {
    const text::CodePoint c = text::decode(bare, at);
    const std::string_view own = std::string_view(bare).substr(at, c.bytes);
    at += c.bytes;
    if (text::is_word(c.value)) {
      run += own;
      continue;
    }
    end_run(text::is_space(c.value));
    if (!text::is_space(c.value)) words.back() += own;
  }
  end_run(true);
  words.pop_back();
  return words;
}

}  // namespace

std::string normalised(const std::string& text) {
  std::string joined;
  for (const std::string& word : words_of(text)) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

double exact_match(const std::string& said, const std::string& right) {
  return normalised(said) == normalised(right) ? 1 : 0;
}

double f1(const std::string& said, const std::string& right) {
  const std::vector<std::string> words = words_of(said), wanted = words_of(right);
  if (words.empty() || wanted.empty()) return words.empty() && wanted.empty() ? 1 : 0;
  std::map<std::string, int64_t> left;
  for (const std::string& word : wanted) ++left[word];
  double common = 0;
  for (const std::string& word : words) common += left[word]-- > 0;
  return 2 * common / static_cast<double>(words.size() + wanted.size());
}

void SquadScores::add(const std::string& text, const std::vector<Answer>& answers) {
  double exact = 0, best = 0;
  bool any = false;
  for (const Answer& answer : answers) {
    if (normalised(answer.text).empty()) continue;
    any = true;
    exact = std::max(exact, exact_match(text, answer.text));
    best = std::max(best, f1(text, answer.text));
  }
  if (!any) exact = best = exact_match(text, "");
  Sum& sum = answers.empty() ? without_ : with_answer_;
  sum.exact += exact;
  sum.f1 += best;
  ++sum.count;
}

Json SquadScores::metrics(bool parts) const {
  const auto percent = [](double sum, int64_t count) {
    return count > 0 ? Json(100 * sum / static_cast<double>(count)) : Json();
  };
  const int64_t count = with_answer_.count + without_.count;
  Json scores = {{"exact_match", percent(with_answer_.exact + without_.exact, count)},
                 {"f1", percent(with_answer_.f1 + without_.f1, count)}};
  if (!parts) return scores;
  const auto add_part = [&](const char* name, const Sum& sum) {
    if (sum.count == 0) return;
    scores[std::string(name) + "_exact"] = percent(sum.exact, sum.count);
    scores[std::string(name) + "_f1"] = percent(sum.f1, sum.count);
  };
  add_part("HasAns", with_answer_);
  add_part("NoAns", without_);
  return scores;
}

}  // namespace deltaw::question_ans

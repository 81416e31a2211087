#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "deltaw/error.h"
#include "text/tokenizer/normal_forms.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/regex.h"

namespace deltaw::text {
namespace {

/// A normalizer that is one function of its settings.
template <class Function>
class Rule final : public Normalizer {
 public:
  explicit Rule(Function function) : function_(std::move(function)) {}
  void normalize(Aligned& text) const override { function_(text); }

 private:
  Function function_;
};

template <class Function>
std::unique_ptr<Normalizer> rule(Function function) {
  return std::make_unique<Rule<Function>>(std::move(function));
}

template <NormalForm form>
std::unique_ptr<Normalizer> make_normal_form(const TokenizerValue&) {
  return rule([](Aligned& text) { normal_form(text, form); });
}

std::unique_ptr<Normalizer> make_lowercase(const TokenizerValue& part) {
  return rule([final_sigma = part.flag(kFinalSigma, false)](Aligned& text) { lowercase(text, final_sigma); });
}

std::unique_ptr<Normalizer> make_strip_accents(const TokenizerValue&) {
  return rule([](Aligned& text) { filter(text, [](char32_t c) { return !is_mark(c); }); });
}

void strip(Aligned& text, bool left, bool right) {
  size_t begin = 0;
  size_t end = text.text.size();
  while (left && begin < end && is_space(decode(text.text, begin).value)) begin += width(text.text[begin]);
  while (right && begin < end) {
    const size_t last = last_start(std::string_view(text.text).substr(0, end));
    if (!is_space(decode(text.text, last).value)) break;
    end = last;
  }
  if (begin == 0 && end == text.text.size()) return;
  Aligned result;
  result.append(text, begin, end);
  text = std::move(result);
}

std::unique_ptr<Normalizer> make_strip(const TokenizerValue& part) {
  return rule(
      [left = part.flag("strip_left"), right = part.flag("strip_right")](Aligned& text) { strip(text, left, right); });
}

/// By the length of the text as it was before all steps.
size_t most_bytes(const Aligned& text) {
  constexpr size_t kOfEach = 64;  // characters; the longest normal form of one has 54 bytes
  return kMostGrowth + kOfEach * (text.spans.empty() ? 0 : text.spans.back().end);
}

/// Inserted characters belong to the last character of the match they replace.
void replace(Aligned& text, const Finder& find, const std::string& content) {
  std::vector<Stretch> stretches;
  find(text.text, stretches);
  Aligned result;
  for (const Stretch& stretch : stretches) {
    if (!stretch.is_match) {
      result.append(text, stretch.begin, stretch.end);
      continue;
    }
    check_growth(result.text.size() + content.size(), most_bytes(text));
    const Span span = stretch.end > 0 ? text.spans[stretch.end - 1] : Span{};
    result.text += content;
    result.spans.resize(result.text.size(), span);
  }
  text = std::move(result);
}

std::unique_ptr<Normalizer> make_replace(const TokenizerValue& part) {
  return rule([find = make_finder(part.at("pattern")), content = part.text("content")](Aligned& text) {
    replace(text, find, content);
  });
}

std::unique_ptr<Normalizer> make_prepend(const TokenizerValue& part) {
  return rule([prefix = part.text("prepend"), at_beginning = part.flag(kAtBeginning, false)](Aligned& text) {
    if (text.text.empty() || (at_beginning && text.spans.front().begin > 0)) return;
    check_growth(text.text.size() + prefix.size(), most_bytes(text));
    text.text.insert(0, prefix);
    text.spans.insert(text.spans.begin(), prefix.size(), text.spans.front());
  });
}

std::unique_ptr<Normalizer> make_sequence(const TokenizerValue& part) {
  std::vector<std::shared_ptr<const Normalizer>> steps;
  for (const TokenizerValue& item : part.at("normalizers").items()) steps.push_back(make_normalizer(item));
  return rule([steps = std::move(steps)](Aligned& text) {
    for (const auto& step : steps) step->normalize(text);
  });
}

constexpr PartKind<Normalizer> kKinds[] = {
    {"BertNormalizer", make_bert_normalizer},
    {"Lowercase", make_lowercase},
    {"NFC", make_normal_form<NormalForm::kNfc>},
    {"NFD", make_normal_form<NormalForm::kNfd>},
    {"NFKC", make_normal_form<NormalForm::kNfkc>},
    {"NFKD", make_normal_form<NormalForm::kNfkd>},
    {"Precompiled", make_precompiled},
    {"Prepend", make_prepend},
    {"Replace", make_replace},
    {"Sequence", make_sequence},
    {"Strip", make_strip},
    {"StripAccents", make_strip_accents},
};

}  // namespace

void check_growth(size_t bytes, size_t most) {
  if (bytes <= most) return;
  throw Error{
      {.id = "format.tokenizer-growth",
       .what = fmt::format("the tokenizer makes {} bytes of a text, where {} are the most to expect", bytes, most),
       .where = "the steps of tokenizer.json that replace or insert text",
       .fix = "take the file from the checkpoint again; it does not hold what a tokenizer file holds"}};
}

std::unique_ptr<Normalizer> make_normalizer(const TokenizerValue& part) {
  return make_part(part, "normalizer", kKinds);
}

Finder make_finder(const TokenizerValue& pattern) {
  if (pattern.has("String")) {
    std::string text = pattern.text("String");
    if (text.empty()) pattern.unsupported("an empty pattern");
    return find_text(std::move(text));
  }
  const TokenizerValue source = pattern.at("Regex");
  try {
    return [regex = Regex(source.text())](std::string_view text, std::vector<Stretch>& out) { regex.find(text, out); };
  } catch (const std::invalid_argument& error) {
    source.unsupported(std::string("the regular expression cannot be read: ") + error.what());
  }
}

}  // namespace deltaw::text

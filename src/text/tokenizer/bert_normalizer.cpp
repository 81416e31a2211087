#include <utility>

#include "text/tokenizer/normal_forms.h"
#include "text/tokenizer/parts.h"

namespace deltaw::text {
namespace {

bool vanishes(char32_t c) {
  if (c < 0x80) return c != '\t' && c != '\n' && c != '\r' && (c < 0x20 || c == 0x7F);
  return c == 0xFFFD || is_other(c);
}

void clean(Aligned& text) {
  size_t out = 0;
  for (size_t at = 0; at < text.text.size();) {
    const CodePoint c = decode(text.text, at);
    if (c.bytes == 1 || is_space(c.value)) {
      if (!vanishes(c.value)) {
        text.text[out] = is_space(c.value) ? ' ' : static_cast<char>(c.value);
        text.spans[out++] = text.spans[at];
      }
    } else if (!vanishes(c.value)) {
      for (uint32_t i = 0; i < c.bytes; ++i, ++out) {
        text.text[out] = text.text[at + i];
        text.spans[out] = text.spans[at + i];
      }
    }
    at += c.bytes;
  }
  text.text.resize(out);
  text.spans.resize(out);
}

void surround_cjk(Aligned& text) {
  bool any = false;
  for (size_t at = 0; at < text.text.size() && !any; at += width(text.text[at])) {
    any = static_cast<unsigned char>(text.text[at]) >= 0xE3 && is_cjk(decode(text.text, at).value);
  }
  if (!any) return;
  Aligned result;
  for (size_t at = 0; at < text.text.size();) {
    const CodePoint c = decode(text.text, at);
    const bool cjk = is_cjk(c.value);
    if (cjk) result.push(' ', text.spans[at]);
    result.push(c.value, text.spans[at]);
    if (cjk) result.push(' ', text.spans[at]);
    at += c.bytes;
  }
  text = std::move(result);
}

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const TokenizerValue& part)
      : clean_text_(part.flag("clean_text")),
        handle_chinese_chars_(part.flag("handle_chinese_chars")),
        lowercase_(part.flag("lowercase")),
        strip_accents_(part.flag("strip_accents", lowercase_)) {}

  void normalize(Aligned& text) const override {
    if (clean_text_) clean(text);
    if (!all_below(text.text, 0x80)) {
      if (handle_chinese_chars_) surround_cjk(text);
      if (strip_accents_) {
        normal_form(text, NormalForm::kNfd);
        filter(text, [](char32_t c) { return !is_nonspacing_mark(c); });
      }
    }
    if (lowercase_) lowercase(text);
  }

 private:
  bool clean_text_;
  bool handle_chinese_chars_;
  bool lowercase_;
  bool strip_accents_;
};

}  // namespace

std::unique_ptr<Normalizer> make_bert_normalizer(const TokenizerValue& part) {
  return std::make_unique<BertNormalizer>(part);
}

}  // namespace deltaw::text

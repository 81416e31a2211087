#include "text/tokenizer/regex.h"
#include "text/tokenizer/regex_syntax.h"

#include <stdexcept>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "core/pcre.h"
#include "deltaw/error.h"

namespace deltaw::text {

struct Regex::Code {
  Pcre code;
  std::string source;
};

Regex::Regex(std::string_view oniguruma) {
  const std::string pattern = pcre_syntax(oniguruma);
  try {
    constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    code_ = std::make_shared<const Code>(Code{Pcre(pattern, kOptions, /*fast=*/true), std::string(oniguruma)});
  } catch (const PcreFault& fault) {
    throw std::invalid_argument(fmt::format("{} at byte {} of {}", fault.reason, fault.offset, pattern));
  }
}

namespace {

std::string_view shortened(std::string_view text) {
  constexpr size_t kShown = 40;
  if (text.size() <= kShown) return text;
  return text.substr(0, last_start(text.substr(0, kShown + 1)));
}

std::optional<std::pair<size_t, size_t>> search(const Pcre& code, const std::string& source, std::string_view text,
                                                size_t from) {
  try {
    return code.search(text, from, PCRE2_NO_UTF_CHECK);
  } catch (const PcreFault& fault) {
    throw Error{{.id = "data.regex",
                 .what = "matching a regular expression of the tokenizer failed: " + fault.reason,
                 .where = fmt::format("expression {}, a text of {} bytes that begins '{}'", source, text.size(),
                                      shortened(text)),
                 .fix = "split the text into shorter rows, or use a tokenizer without repetitions inside repetitions"}};
  }
}

}  // namespace

void Regex::find(std::string_view text, std::vector<Stretch>& out) const {
  const auto push = [&](size_t begin, size_t end, bool is_match) {
    out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), is_match});
  };
  size_t done = 0;
  size_t from = 0;
  bool any = false;
  while (from <= text.size()) {
    const auto match = search(code_->code, code_->source, text, from);
    if (!match) break;
    const auto [begin, end] = *match;
    if (begin == end && any && begin == done) {  // an empty match right after a match does not count
      from = begin < text.size() ? begin + width(text[begin]) : text.size() + 1;
      continue;
    }
    if (done < begin) push(done, begin, false);
    push(begin, end, true);
    done = from = end;
    any = true;
  }
  if (done < text.size()) push(done, text.size(), false);
}

}  // namespace deltaw::text

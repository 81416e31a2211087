#include "text/regex.h"

#include <stdexcept>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "deltaw/error.h"

namespace deltaw::text {

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string source;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

namespace {

struct MatchData {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);

  MatchData() = default;
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;
  ~MatchData() { pcre2_match_data_free(data); }
};

std::string message(int code) {
  unsigned char text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

/// Match begin and end at or after `from`; false when there is none.
bool search(const pcre2_code* code, const std::string& source, std::string_view text, size_t from, size_t& begin,
            size_t& end) {
  thread_local const MatchData match;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match.data, nullptr);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match.data, nullptr);
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    throw Error{{.id = "data.regex",
                 .what = "matching a regular expression of the tokenizer failed: " + message(found),
                 .where = fmt::format("expression {}, a text of {} bytes", source, text.size()),
                 .fix = "split the text into shorter rows"}};
  }
  const size_t* vector = pcre2_get_ovector_pointer(match.data);
  begin = vector[0];
  end = vector[1];
  return true;
}

}  // namespace

Regex::Regex(std::string_view oniguruma) {
  auto compiled = std::make_shared<Code>();
  compiled->source = oniguruma;
  const std::string pattern = pcre_syntax(oniguruma);
  int error = 0;
  size_t offset = 0;
  compiled->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (compiled->code == nullptr) {
    throw std::invalid_argument(fmt::format("{} at byte {} of {}", message(error), offset, pattern));
  }
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);  // without it the interpreter runs, with the same results
  code_ = std::move(compiled);
}

void Regex::find(std::string_view text, std::vector<Stretch>& out) const {
  const auto push = [&](size_t begin, size_t end, bool is_match) {
    out.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), is_match});
  };
  size_t done = 0;
  size_t from = 0;
  bool any = false;
  size_t begin = 0;
  size_t end = 0;
  while (from <= text.size() && search(code_->code, code_->source, text, from, begin, end)) {
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

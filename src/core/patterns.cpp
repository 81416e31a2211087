#include "core/patterns.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <memory>

#include "deltaw/error.h"

namespace deltaw {

bool full_match(const std::string& pattern, const std::string& text) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> compiled(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code, &offset, nullptr),
      pcre2_code_free);
  if (!compiled) {
    PCRE2_UCHAR reason[256];
    pcre2_get_error_message(code, reason, sizeof reason);
    throw Error({.id = "config.bad-pattern",
                 .what = fmt::format("'{}' is no regular expression: {} at position {}", pattern,
                                     reinterpret_cast<const char*>(reason), offset),
                 .where = "a pattern of module names",
                 .fix = "mend the expression, or give a list of module names"});
  }
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create_from_pattern(compiled.get(), nullptr), pcre2_match_data_free);
  return pcre2_match(compiled.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, match.get(),
                     nullptr) >= 0;
}

bool has_suffix(const std::string& name, const std::string& suffix) {
  return name == suffix ||
         (name.size() > suffix.size() && name.ends_with(suffix) && name[name.size() - suffix.size() - 1] == '.');
}

bool matches_end(const std::string& pattern, const std::string& name) {
  return full_match("(.*\\.)?(" + pattern + ")", name);
}

double pattern_value(const Json& patterns, const std::string& name, double fallback, const Rule& rule) {
  if (!patterns.is_object()) return fallback;
  for (const auto& [key, value] : patterns.items()) {
    if (!matches_end(key, name)) continue;
    if (value.is_number() && rule.allows(value.get<double>())) return value.get<double>();
    throw Error({.id = "config.out-of-range",
                 .what = fmt::format("the pattern '{}' has the value {}, which must be a number {}", key, value.dump(),
                                     rule.text()),
                 .where = "layer " + name,
                 .fix = "mend rank_pattern or alpha_pattern"});
  }
  return fallback;
}

void refuse_unless(bool ok, const std::string& key, const Json& value, const std::string& accepted) {
  if (ok) return;
  throw Error({.id = "config.unsupported",
               .what = fmt::format("{} = {} is not accepted", key, value.dump()),
               .where = "key \"" + key + "\"",
               .fix = "give " + accepted});
}

}  // namespace deltaw

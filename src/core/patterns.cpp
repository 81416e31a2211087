#include "core/patterns.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <optional>

#include "core/pcre.h"
#include "deltaw/error.h"

namespace deltaw {

namespace {

[[noreturn]] void bad_pattern(const std::string& what, const std::string& fix) {
  throw Error({.id = "config.bad-pattern", .what = what, .where = "a pattern of module names", .fix = fix});
}

Pcre compiled(const std::string& pattern, uint32_t options) {
  try {
    return {pattern, PCRE2_ANCHORED | PCRE2_UTF | options, /*fast=*/false};
  } catch (const PcreFault& fault) {
    bad_pattern(fmt::format("'{}' is no regular expression: {} at position {}", pattern, fault.reason, fault.offset),
                "correct the expression, or give a list of module names");
  }
}

// What `match` makes of the text.
template <class Match>
auto matched(const std::string& pattern, const std::string& text, const Match& match) {
  try {
    return match();
  } catch (const PcreFault& fault) {
    bad_pattern(fmt::format("'{}' cannot be matched against '{}': {}", pattern, text, fault.reason),
                "write the expression without repetitions inside repetitions, or give a list of module names");
  }
}

}  // namespace

bool full_match(const std::string& pattern, const std::string& text) {
  const Pcre whole = compiled(pattern, PCRE2_ENDANCHORED);
  return matched(pattern, text, [&] { return whole.search(text).has_value(); });
}

std::optional<std::string> matched_group(const std::string& pattern, const std::string& group,
                                         const std::string& text) {
  const Pcre begin = compiled(pattern, 0);
  return matched(pattern, text, [&] { return begin.group(text, group); });
}

bool has_suffix(const std::string& name, const std::string& suffix) {
  return name == suffix ||
         (name.size() > suffix.size() && name.ends_with(suffix) && name[name.size() - suffix.size() - 1] == '.');
}

bool names_module(const Json& targets, const std::string& name) {
  if (targets.is_string()) return full_match(targets.get<std::string>(), name);
  return std::any_of(targets.begin(), targets.end(),
                     [&](const Json& entry) { return has_suffix(name, entry.get<std::string>()); });
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

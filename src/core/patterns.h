// How names are matched: PEFT's rules, on the regular expressions of PCRE2 with Python's meaning.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "deltaw/options.h"

namespace deltaw {

/// Python's re.fullmatch. Throws config.bad-pattern naming the pattern and PCRE2's reason.
bool full_match(const std::string& pattern, const std::string& text);

/// What the group `group` of Python's re.match of `pattern` on `text` holds; none where it does not match, or the group
/// took no part. Throws config.bad-pattern.
std::optional<std::string> matched_group(const std::string& pattern, const std::string& group, const std::string& text);

/// True when `name` is `suffix` or ends in ".suffix".
bool has_suffix(const std::string& name, const std::string& suffix);

/// Whether `targets` name the module: a list of its names' ends, as has_suffix takes them, or one regular expression.
bool names_module(const Json& targets, const std::string& name);

/// True when `pattern` matches the end of `name` (re.match of "(.*\.)?(pattern)$"): how rank_pattern's keys are read.
bool matches_end(const std::string& pattern, const std::string& name);

/// The value of the first key of `patterns` that matches the end of `name`, else `fallback`. Throws config.out-of-range
/// for a value that is no number or that `rule` refuses.
double pattern_value(const Json& patterns, const std::string& name, double fallback, const Rule& rule);

/// Throws config.unsupported naming key, value and what is accepted, unless `ok`.
void refuse_unless(bool ok, const std::string& key, const Json& value, const std::string& accepted);

}  // namespace deltaw

// Oniguruma's regular expressions in the words of PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace deltaw::text {

/// The same expression in PCRE2's syntax. Tokenizer files are written for Oniguruma, which differs in what \w, \s, \h
/// and \p{Script} mean, in (?m), and in `{2,3}+`. Throws std::invalid_argument for what has no counterpart.
std::string pcre_syntax(std::string_view oniguruma);

}  // namespace deltaw::text

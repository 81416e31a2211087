// The one place that calls PCRE2: compiling, and matching that comes to an end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace deltaw {

/// Why an expression cannot be compiled, or not be matched against a text.
struct PcreFault {
  std::string reason;
  size_t offset = 0;  // in the expression
};

/// One compiled expression. Safe to use from several threads.
class Pcre {
 public:
  /// `options` are those of pcre2_compile. `fast`: compiled to machine code where PCRE2 can, with the same results.
  /// Throws PcreFault.
  Pcre(std::string_view expression, uint32_t options, bool fast);

  /// Begin and end of the first match at or after `from`; nothing where there is none. `options` are those of
  /// pcre2_match. Throws PcreFault where it would take too many steps or too much memory, or the text is not UTF-8:
  /// that is not known to be no match.
  std::optional<std::pair<size_t, size_t>> search(std::string_view text, size_t from = 0, uint32_t options = 0) const;

  /// What the group `name` holds in the first match; nothing without a match or where the group took no part in it.
  /// Throws as search does.
  std::optional<std::string> group(std::string_view text, const std::string& name) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace deltaw

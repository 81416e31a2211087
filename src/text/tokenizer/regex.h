// Regular expressions as tokenizer files write them, on PCRE2.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/pieces.h"

namespace deltaw::text {

/// One compiled expression. Its \p{L} and the like are those of PCRE2's Unicode version (14 in PCRE2 10.42), so a
/// character newer than that is neither letter nor number here, while the reference library knows Unicode 16. Safe to
/// use from several threads.
class Regex {
 public:
  /// Throws std::invalid_argument with the reason and the position.
  explicit Regex(std::string_view oniguruma);

  /// Stretches that cover `text`: matches and what lies between. Throws data.regex when matching takes too long.
  void find(std::string_view text, std::vector<Stretch>& out) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace deltaw::text

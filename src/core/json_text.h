// JSON as text that people and terminals may see.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw {

/// On one line, or indented; controls are written out, invalid UTF-8 becomes U+FFFD. Both end with a line break.
std::string to_line(const Json& value);
std::string to_text(const Json& value);

}  // namespace deltaw

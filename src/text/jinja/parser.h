// Template text to tree.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/ast.h"

namespace deltaw::text::jinja {

/// The statements of a template. Throws format.chat-template naming the construct and its line, for errors and for
/// what the subset leaves out.
Body parse(std::string_view source, const std::string& where);

}  // namespace deltaw::text::jinja

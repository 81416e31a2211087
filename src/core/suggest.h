// A hint at names, as part of a message.
#pragma once

#include <string>
#include <vector>

namespace deltaw {

/// suggest_names() with a sentence after it; that alone where there is nothing to suggest.
std::string suggest_names(const std::string& name, const std::vector<std::string>& known, const std::string& more);

}  // namespace deltaw

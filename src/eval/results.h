// What the scores of language models have in common.
#pragma once

#include <string>
#include <vector>

#include "deltaw/options.h"

namespace deltaw::eval {

/// Adds the share of hits as `name`, and its standard error as `name`_stderr (null below two).
void add_share(Json& results, const std::string& name, const std::vector<bool>& hits);

/// Throws data.empty-file.
void check_any(bool any);

}  // namespace deltaw::eval

// What is about to be trained, before the first step.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw::cli {

/// The preview of load.h as a table of layers, parameters, data and memory; `rows` is what the task says of its rows.
std::string preview_text(const Json& preview, const std::string& rows);

}  // namespace deltaw::cli

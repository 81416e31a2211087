// What is about to be trained, before the first step.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw::cli {

/// The preview of load.h as a table of layers, parameters, data and memory, with one input as text and as tokens.
std::string preview_text(const Json& preview);

}  // namespace deltaw::cli

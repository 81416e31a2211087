// Which keys of PEFT's adapter_config.json ask for nothing.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw::foreign {

/// Whether a key of that name says nothing about the update, or has a value that asks for nothing.
bool asks_for_nothing(const std::string& key, const Json& value);

}  // namespace deltaw::foreign

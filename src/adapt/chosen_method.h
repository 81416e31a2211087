// Which method is meant, for what sees no tensor.
#pragma once

#include <string>

#include "deltaw/options.h"

namespace deltaw {

/// The id of the method that options or an adapter_config.json choose; lora where they name none.
std::string chosen_method(const Json& values, const std::string& where);

}  // namespace deltaw

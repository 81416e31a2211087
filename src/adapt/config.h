// adapter_config.json and the options of a run: one flat object each.
#pragma once

#include <string>

#include "deltaw/adapter.h"

namespace deltaw {

/// The method that `method` or `peft_type` names, with settings such as "use_dora": true taken into account. Throws
/// config.conflict, naming both, for a setting beside a method that does not have it.
const MethodSpec& choose_method(const Json& values, const std::string& where);

/// Throws config.unsupported for a key of adapter_config.json that is neither known, nor off, nor without meaning here.
void refuse_other_keys(const Json& values, const MethodSpec& spec, const std::string& where);

/// adapter_config.json's content.
Json adapter_config_to_json(const AdapterConfig& config);

}  // namespace deltaw

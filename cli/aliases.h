// Names and values that users bring from other tools.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/problems.h"
#include "deltaw/options.h"

namespace deltaw::cli {

/// Other names of the keys in `known`.
std::vector<std::string> other_names(const std::set<std::string>& known);

/// True where `name` is one of other_names() and stands for a truth value ("bf16"), or for one of `switches`.
bool is_switch(const std::string& name, const std::set<std::string>& switches);

/// Whether `name` is another name of one of `keys`.
bool stands_for(const std::string& name, const std::set<std::string>& keys);

/// `values` under the names of `known`: `-` and `_` alike, lora_rank as r. A setting that deltaw knows but does not
/// implement is dropped where it asks for what deltaw does anyway ("fp16": false), and refused by name otherwise
/// (config.not-implemented), and so are two names of one key that disagree (config.two-names): such errors go to
/// `problems`, and their keys are left out. Keys that are neither stay.
Json translate(const Json& values, const std::set<std::string>& known, const std::string& where, Problems& problems);

}  // namespace deltaw::cli

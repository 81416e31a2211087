// Keys of PEFT's configurations that act while an adapter trains, and are not implemented here.
#pragma once

#include <map>
#include <string>

namespace deltaw {

/// Each with what it does in PEFT, for a message: "drops components at random while they train".
const std::map<std::string, const char*>& training_only_keys();

/// Throws config.unsupported for such a key among the options of a run: without it the training would be another one.
void refuse_training_key(const std::string& key, const std::string& where);

}  // namespace deltaw

// What PEFT's files may and may not say, and what PEFT makes of ours.
#pragma once

#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/family.h"

namespace deltaw {

/// The version of PEFT whose files these are: `peft_version` in adapter_config.json.
inline constexpr const char* kPeftVersion = "0.21.2";

/// An adapter_config.json less what is over once an adapter is trained: dropouts that have no counterpart here,
/// networks that made the prompt, starts that left the base alone.
Json without_training(Json config);

/// False for a key of AdapterConfig that PEFT's configuration of that type does not have, so that PEFT passes it over.
bool peft_has_key(const MethodSpec& spec, const std::string& key);

/// Whether a task_type of PEFT can say which head of the family is meant. It has none for images, and reads adapters of
/// their models whatever their file says there.
bool peft_names_heads(const FamilySpec& family);

/// adapter_config.json names a task that PEFT has no task_type for as PEFT does: none, and the model's class in
/// auto_mapping, with the task beside it.
void name_task_for_peft(Json& config, const Model& model);
/// The same as it was: a task_type that such a file names in auto_mapping.
Json with_task(Json config);
/// The task_type of the head that auto_mapping's class has: PEFT names it where it was told no task. Empty where there
/// is none.
std::string task_of_class(const Json& config);

/// IA3's feedforward_modules as an expression, where PEFT would refuse the list: it wants each among target_modules.
void widen_for_peft(Json& config);

/// What PEFT reads otherwise, or not at all, of the adapter's files; a sentence each. Empty for a method that PEFT has
/// not.
std::vector<std::string> peft_differences(const Adapter& adapter);

}  // namespace deltaw

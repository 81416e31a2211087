// The table of methods without its types, for what never sees a tensor.
#pragma once

#include <string>
#include <vector>

#include "adapt/chosen_method.h"
#include "deltaw/options.h"

namespace deltaw::cli {

struct MethodInfo {
  std::string id, title, paper, peft_type;
  std::string parameters;  // per layer, as a formula
  bool identity_at_init = true;
  bool trains_all = false;    // every tensor of the model
  std::string tensor_prefix;  // see MethodSpec
  std::string preset_of;      // the method that this is a short name for; empty for a method
  Json settings;              // what it sets, or what tells it from others of that PEFT type: {"use_dora": true}
  std::vector<FieldInfo> options;
};

std::vector<MethodInfo> method_infos();
/// The presets among them, by id; a preset's options have its values as defaults.
std::vector<MethodInfo> methods_and_presets();

}  // namespace deltaw::cli

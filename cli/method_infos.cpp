#include "method_infos.h"

#include <algorithm>

#include "deltaw/method.h"

namespace deltaw::cli {

std::vector<MethodInfo> method_infos() {
  std::vector<MethodInfo> infos;
  for (const MethodSpec* spec : method_table()) {
    infos.push_back({.id = spec->id,
                     .title = spec->title,
                     .paper = spec->paper,
                     .peft_type = spec->peft_type,
                     .parameters = spec->parameter_count,
                     .identity_at_init = spec->identity_at_init,
                     .trains_all = spec->acts_on == std::vector<ActsOn>{ActsOn::every_tensor},
                     .tensor_prefix = spec->tensor_prefix,
                     .settings = spec->peft_settings,
                     .options = spec->options()});
  }
  return infos;
}

std::vector<MethodInfo> methods_and_presets() {
  std::vector<MethodInfo> infos = method_infos();
  for (const MethodSpec* spec : method_table()) {
    for (const Preset& preset : spec->presets) {
      MethodInfo info = *std::find_if(infos.begin(), infos.end(), [&](const auto& i) { return i.id == spec->id; });
      info.id = preset.id;
      info.title = preset.title;
      info.paper = preset.paper;
      info.preset_of = spec->id;
      info.settings = preset.options;
      for (FieldInfo& option : info.options) {
        if (preset.options.contains(option.name)) option.default_value = preset.options[option.name];
      }
      infos.push_back(std::move(info));
    }
  }
  std::sort(infos.begin(), infos.end(), [](const MethodInfo& a, const MethodInfo& b) { return a.id < b.id; });
  return infos;
}

}  // namespace deltaw::cli

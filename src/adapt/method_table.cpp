#include <fmt/format.h>

#include <algorithm>

#include "core/ascii.h"
#include "core/registry.h"
#include "core/suggest.h"
#include "deltaw/error.h"
#include "deltaw/method.h"

namespace deltaw {

// Written by the build from the files in methods/.
const std::vector<const MethodSpec*>& built_in_methods();

namespace {

Registry<MethodSpec>& methods() {
  static Registry<MethodSpec> registry(built_in_methods(), &MethodSpec::id);
  return registry;
}

}  // namespace

std::vector<const MethodSpec*> method_table() {
  return methods().all();
}

const MethodSpec& find_method(const std::string& name) {
  const std::string wanted = lower(name);
  const auto table = method_table();
  std::vector<std::string> ids;
  for (const MethodSpec* spec : table) {
    if (spec->id == wanted) return *spec;
    ids.push_back(spec->id);
    for (const Preset& preset : spec->presets) {
      if (preset.id == wanted) return *spec;
      ids.push_back(preset.id);
    }
  }
  const MethodSpec* of_type = nullptr;  // the one that no setting tells from others, where there are several
  for (const MethodSpec* spec : table) {
    if (lower(spec->peft_type) != wanted) continue;
    if (!of_type || (spec->peft_settings.empty() && !of_type->peft_settings.empty())) of_type = spec;
  }
  if (of_type) return *of_type;
  throw Error({.id = "config.unknown-method",
               .what = fmt::format("there is no method '{}'", name),
               .where = "key \"method\"",
               .fix = suggest_names(wanted, ids, "`deltaw methods` lists them")});
}

const Preset* find_preset(const std::string& name) {
  const std::string wanted = lower(name);
  for (const MethodSpec* spec : method_table()) {
    for (const Preset& preset : spec->presets) {
      if (preset.id == wanted) return &preset;
    }
  }
  return nullptr;
}

bool MethodSpec::on(ActsOn what) const {
  return std::find(acts_on.begin(), acts_on.end(), what) != acts_on.end();
}

bool trains_only(const MethodSpec& spec, const std::string& option) {
  const std::vector<std::string>& own = spec.training_options;
  return option.ends_with("_dropout") || std::find(own.begin(), own.end(), option) != own.end();
}

void register_method(const MethodSpec& spec) {
  if (methods().add(spec)) return;
  throw Error({.id = "config.method-exists",
               .what = fmt::format("a method '{}' is registered already", spec.id),
               .where = "register_method",
               .fix = "give the new method another id"});
}

}  // namespace deltaw

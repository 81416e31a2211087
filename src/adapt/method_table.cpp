#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "deltaw/error.h"
#include "deltaw/method.h"

namespace deltaw {

// Written by the build from the files in methods/.
const std::vector<const MethodSpec*>& built_in_methods();

namespace {

std::mutex registered_mutex;
std::vector<const MethodSpec*>& registered() {
  static std::vector<const MethodSpec*> methods;
  return methods;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

std::vector<const MethodSpec*> method_table() {
  std::vector<const MethodSpec*> table = built_in_methods();
  {
    const std::lock_guard lock(registered_mutex);
    table.insert(table.end(), registered().begin(), registered().end());
  }
  std::sort(table.begin(), table.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  return table;
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
  for (const MethodSpec* spec : table) {
    if (lower(spec->peft_type) == wanted && (spec->peft_settings.empty() || spec->peft_type != "LORA")) return *spec;
  }
  const std::string near = suggest_names(wanted, ids);
  throw Error({.id = "config.unknown-method",
               .what = fmt::format("there is no method '{}'", name),
               .where = "key \"method\"",
               .fix = near.empty() ? "`deltaw methods` lists them" : near + "; `deltaw methods` lists them"});
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

bool trains_only(const MethodSpec& spec, const std::string& option) {
  const std::vector<std::string>& own = spec.training_options;
  return option.ends_with("_dropout") || std::find(own.begin(), own.end(), option) != own.end();
}

void register_method(const MethodSpec& spec) {
  for (const MethodSpec* known : method_table()) {
    if (known->id != spec.id) continue;
    throw Error({.id = "config.method-exists",
                 .what = fmt::format("a method '{}' is registered already", spec.id),
                 .where = "register_method",
                 .fix = "give the new method another id"});
  }
  const std::lock_guard lock(registered_mutex);
  registered().push_back(&spec);
}

}  // namespace deltaw

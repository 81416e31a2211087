#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "adapt/config.h"
#include "adapt/peft_format.h"
#include "core/foreign/peft_keys.h"
#include "deltaw/error.h"
#include "deltaw/task.h"

namespace deltaw {
namespace {

/// What an adapter may be for; empty where its file does not say.
std::vector<std::string> task_types() {
  std::vector<std::string> types = {""};
  for (const TaskSpec* task : listed_tasks()) types.push_back(task->id);
  return types;
}

std::vector<std::string> field_names(const Fields& fields) {
  std::vector<std::string> names;
  for (const FieldInfo& field : describe_fields(fields)) names.push_back(field.name);
  return names;
}

}  // namespace

void AdapterConfig::fields(FieldVisitor& f) {
  f.field("target_modules", target_modules,
          "Layers that get the update: endings of module names, one regular expression, or all-linear; null for the "
          "model's defaults.");
  f.field("exclude_modules", exclude_modules, "Layers that do not, though target_modules names them.");
  f.field("layers_to_transform", layers_to_transform, "Only these layer numbers: one or a list.");
  f.field("layers_pattern", layers_pattern, "What stands before the layer number in a module's name.");
  f.field("modules_to_save", modules_to_save, "Modules trained whole and saved with the adapter; the head always is.");
  f.field("trainable_token_indices", trainable_token_indices,
          "Tokens whose embeddings train while all others stay: a list of ids, or a map to one from the name of an "
          "embedding or a head. A tied head has the embedding's rows unless it is given others.");
  f.field("ensure_weight_tying", ensure_weight_tying,
          "Train a tied embedding and head as one, where modules_to_save or (LoRA) target_modules names embed_tokens "
          "or lm_head; else they part.");
  f.field("bias", bias, "Biases of the base that train: none, all, or lora_only (of the adapted layers).",
          one_of({"none", "all", "lora_only", "randlora_only", "vera_only", "oft_only"}));
  f.field("share", share,
          "Tensors that layers have in common: a map of a tensor's name (lora_A, lora_B, lora_AB) to the end of the "
          "layers' names, a regular expression.");
  f.field(
      "beside", beside,
      "Further adapters that act and train with this one: a list of configurations, or of {adapter_name_or_path} of "
      "finished ones, which stay frozen.");
  f.field("task_type", task_type, "What the model is for, as PEFT names it; empty: what its model_type is loaded as.",
          one_of(task_types()));
}

namespace {

[[noreturn]] void refuse_together(const std::string& what, const std::string& where, const std::string& fix) {
  throw Error({.id = "config.conflict", .what = what, .where = where, .fix = fix});
}

std::string named_method(const Json& values, const std::string& where) {
  std::string name, also;
  for (const char* key : {"method", "peft_type"}) {
    const Json value = values.value(key, Json());
    if (value.is_null()) continue;
    if (!value.is_string()) {
      throw Error({.id = "config.wrong-type",
                   .what = fmt::format("{} = {} is no name of a method", key, value.dump(-1, ' ', true).substr(0, 60)),
                   .where = where,
                   .fix = "give a text; `deltaw methods` lists the names"});
    }
    (name.empty() ? name : also) = value.get<std::string>();
  }
  if (!also.empty() && find_method(name).peft_type != find_method(also).peft_type) {
    refuse_together(fmt::format("method is {} and peft_type is {}", name, also), where, "leave one of them out");
  }
  return name.empty() ? "lora" : name;
}

// Whether `values` ask for the setting as `wanted` has it, in any spelling of a file or a flag.
bool asks_for(const Json& values, const std::string& key, const Json& wanted, const std::string& where) {
  const Json given = values.value(key, Json());
  if (given.is_null()) return false;
  if (!wanted.is_boolean()) return given == wanted || given == wanted.dump();
  bool truth = false;
  read_fields([&](FieldVisitor& f) { f.field(key.c_str(), truth, ""); }, {{key, given}}, where);
  return truth == wanted.get<bool>();
}

bool settings_hold(const Json& settings, const Json& values, const std::string& where) {
  return std::all_of(settings.items().begin(), settings.items().end(),
                     [&](const auto& item) { return asks_for(values, item.key(), item.value(), where); });
}

// The method as the values name it: "dora (use_dora)" where a setting chose it.
std::string shown_method(const Json& values, const MethodSpec& chosen, const std::string& name) {
  for (const auto& [key, wanted] : chosen.peft_settings.items()) {
    if (values.contains(key)) return fmt::format("{} ({})", chosen.id, key);
  }
  return find_preset(name) ? name : chosen.id;
}

// A setting chooses the method that has it; beside another it would be read by nobody.
void check_settings(const Json& values, const MethodSpec& chosen, const std::string& name, const std::string& where) {
  for (const MethodSpec* spec : method_table()) {
    for (const auto& [key, wanted] : spec->peft_settings.items()) {
      const Json given = values.value(key, Json());
      if (given.is_null() || given == "") continue;
      const std::string shown = given.is_string() ? given.get<std::string>() : given.dump(-1, ' ', true);
      if (const auto own = chosen.peft_settings.find(key); own != chosen.peft_settings.end()) {
        if (asks_for(values, key, *own, where)) continue;
        refuse_together(fmt::format("method {} is {} = {}, and {} is given", name, key, own->dump(), shown), where,
                        fmt::format("leave {} out, or name another method", key));
      }
      if (!asks_for(values, key, wanted, where) && wanted.is_boolean()) continue;
      refuse_together(fmt::format("{} = {} is a setting of {}, and the method is {}", key, shown, spec->id,
                                  shown_method(values, chosen, name)),
                      where, fmt::format("leave {} out, or set method to {}", key, spec->id));
    }
  }
}

// A number of a preset is its default; a text may go on ("pissa_niter_16" is a pissa); the rest is what it means.
bool agrees(const Json& preset, const Json& given) {
  if (preset.is_number()) return true;
  if (preset.is_string() && given.is_string()) return given.get<std::string>().starts_with(preset.get<std::string>());
  return given == preset || given == preset.dump();
}

// Fills in what the preset of that name sets, if it is one.
void apply_preset(Json& options, const MethodSpec& spec, const std::string& name, const std::string& where) {
  const Preset* preset = find_preset(name);
  if (!preset) return;
  const std::vector<FieldInfo> known = spec.options();
  for (const auto& [key, value] : preset->options.items()) {
    if (std::none_of(known.begin(), known.end(), [&, &k = key](const FieldInfo& field) { return field.name == k; })) {
      const std::string setting = spec.peft_settings.empty() ? spec.id : spec.peft_settings.begin().key();
      refuse_together(fmt::format("method {} is {} = {}, and {}, which {} asks for, has no {}", name, key, value.dump(),
                                  spec.id, setting, key),
                      where, fmt::format("leave {} out, or set method to {}", setting, spec.id));
    }
    const auto given = options.find(key);
    if (given == options.end()) {
      options[key] = value;
    } else if (!agrees(value, *given)) {
      refuse_together(fmt::format("method {} is {} = {}, and {} is given", name, key, value.dump(), given->dump()),
                      where, fmt::format("leave {} out, or name the method that has it", key));
    }
  }
}

}  // namespace

const MethodSpec& choose_method(const Json& values, const std::string& where) {
  const std::string name = named_method(values, where);
  const MethodSpec* chosen = &find_method(name);
  if (chosen->peft_settings.empty()) {
    // "use_dora": true makes LORA the method that it names.
    for (const MethodSpec* spec : method_table()) {
      const std::vector<std::string>& others = spec->other_peft_types;
      const bool related = spec->peft_type == chosen->peft_type ||
                           std::find(others.begin(), others.end(), chosen->peft_type) != others.end();
      if (!related || spec->peft_settings.empty() || !settings_hold(spec->peft_settings, values, where)) continue;
      chosen = spec;
      break;
    }
  }
  check_settings(values, *chosen, name, where);
  return *chosen;
}

AdapterConfig adapter_config_from_json(const Json& values, const std::string& where) {
  AdapterConfig config;
  Json own = values;
  if (own.contains("task_type") && own["task_type"].is_null()) own.erase("task_type");
  read_fields(fields_of(config), own, where);
  const MethodSpec& spec = choose_method(values, where);
  config.method = spec.id;
  for (const FieldInfo& option : spec.options()) {
    const auto found = values.find(option.name);
    if (found != values.end() && !found->is_null()) config.options[option.name] = *found;
  }
  apply_preset(config.options, spec, named_method(values, where), where);
  config.options = spec.normalized(config.options, where);
  if (const auto base = values.find("base_model_name_or_path"); base != values.end() && base->is_string()) {
    config.base_model_name_or_path = base->get<std::string>();
  }
  return config;
}

void refuse_other_keys(const Json& values, const MethodSpec& spec, const std::string& where) {
  AdapterConfig any;
  const std::vector<std::string> shared = field_names(fields_of(any));
  std::set<std::string> known(shared.begin(), shared.end());
  for (const FieldInfo& option : spec.options()) known.insert(option.name);
  for (const auto& [key, value] : values.items()) {
    if (known.contains(key) || foreign::asks_for_nothing(key, value)) continue;
    if (spec.peft_settings.contains(key) && spec.peft_settings[key] == value) continue;
    throw Error({.id = "config.unsupported",
                 .what = fmt::format("\"{}\": {} is not implemented for {}", key, value.dump(), spec.title),
                 .where = where,
                 .fix = "the adapter needs a feature that is not here; without it its results would be wrong"});
  }
}

Json adapter_config_to_json(const AdapterConfig& config) {
  const MethodSpec& spec = find_method(config.method);
  AdapterConfig copy = config;
  Json json = write_fields(fields_of(copy));
  const Json defaults = spec.normalized(Json::object(), "adapter");
  Json options = spec.normalized(config.options, "adapter");
  for (const std::string& name : spec.own_options) {
    if (options[name] == defaults[name]) options.erase(name);
  }
  json.update(options);
  json.update(spec.peft_settings);
  json["peft_type"] = spec.peft_type;
  json["peft_version"] = kPeftVersion;
  json["base_model_name_or_path"] =
      config.base_model_name_or_path.empty() ? Json() : Json(config.base_model_name_or_path);
  for (const char* own : {"share", "beside"}) {  // unknown to PEFT
    if (json[own].is_null()) json.erase(own);
  }
  if (config.task_type.empty()) json["task_type"] = nullptr;
  json["inference_mode"] = true;
  json["auto_mapping"] = nullptr;
  json["revision"] = nullptr;
  return json;
}

}  // namespace deltaw

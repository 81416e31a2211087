#include "run/continued.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "adapt/adapter_folder.h"
#include "adapt/chosen_method.h"
#include "adapt/module_names.h"
#include "adapt/rank_allocator.h"
#include "adapt/targets.h"
#include "deltaw/error.h"
#include "methods/budget.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

/// What was asked for of one adapter, and where.
struct Asked {
  Json values;
  std::string where;

  bool has(const std::string& key) const { return !values.value(key, Json()).is_null(); }
};

[[noreturn]] void refuse(const std::string& key, const Json& asked, const Json& own, const Asked& by) {
  throw Error({.id = "config.conflict",
               .what = fmt::format("{} is {} here and {} in the adapter that training goes on from", key, asked.dump(),
                                   own.dump()),
               .where = by.where + ", beside 'adapter_name_or_path'",
               .fix = fmt::format("leave {} out, or train a new adapter", key)});
}

/// An empty map or list says as much as none.
bool is_nothing(const Json& value) {
  return value.is_null() || (value.is_structured() && value.empty());
}

bool same(const Json& a, const Json& b) {
  return a == b || (is_nothing(a) && is_nothing(b));
}

std::set<int64_t> saved_slots(const Model& model, const std::vector<std::string>& modules) {
  std::set<int64_t> slots;
  for (const Parameter* parameter : find_saved(model, modules)) {
    const auto below = [&](const std::string& module) { return parameter->name.starts_with(module + "."); };
    const auto& added = model.new_modules();  // as the head, they are trained without being named
    const bool unnamed = (saves_head(model) && below(model.head())) || std::any_of(added.begin(), added.end(), below);
    if (!unnamed) slots.insert(parameter->slot);
  }
  return slots;
}

bool same_layers(const Adapter& adapter, const AdapterConfig& config) {
  if (!adapter.spec().on_layers()) return false;
  std::vector<const Layer*> own;
  for (const AdaptedLayer* layer : adapter.layers()) own.push_back(layer->base);
  return find_targets(adapter.model(), config, adapter.spec()) == own;
}

/// The keys of AdapterConfig.
void check_config(const Adapter& adapter, const AdapterConfig& wanted, const Asked& asked) {
  AdapterConfig own = adapter.config(), given = wanted;
  const Json has = write_fields(fields_of(own)), wants = write_fields(fields_of(given));
  static const std::set<std::string> selecting = {"target_modules", "exclude_modules", "layers_to_transform",
                                                  "layers_pattern"};
  Json selection = Json::object();  // of what was asked for
  std::string first;
  for (const auto& [key, value] : wants.items()) {
    if (!asked.has(key) || same(value, has[key]) || key == "beside" || (key == "task_type" && value == "")) continue;
    if (key == "modules_to_save" &&
        saved_slots(adapter.model(), given.modules_to_save) == saved_slots(adapter.model(), own.modules_to_save)) {
      continue;
    }
    if (!selecting.contains(key)) refuse(key, value, has[key], asked);
    selection[key] = value;
    if (first.empty()) first = key;
  }
  if (selection.empty()) return;
  AdapterConfig merged = adapter.config();
  read_fields(fields_of(merged), selection, asked.where);
  if (!same_layers(adapter, merged)) refuse(first, selection[first], has[first], asked);
}

/// The options of the method that were asked for, those of a short name among them.
Json asked_options(const MethodSpec& spec, const AdapterConfig& wanted, const Asked& asked) {
  const Json values = asked.values.value("method", Json());
  const Preset* preset = values.is_string() ? find_preset(values.get<std::string>()) : nullptr;
  Json options = Json::object();
  for (const FieldInfo& option : spec.options()) {
    const bool named = preset && preset->options.contains(option.name);
    if (named || asked.has(option.name)) options[option.name] = wanted.options[option.name];
  }
  return options;
}

/// Refuses what the adapter is not, and returns the options that are others and may be; none of a part may.
Json agreed(const Adapter& adapter, const Asked& asked, bool is_part = false) {
  const MethodSpec& spec = adapter.spec();
  Json values = asked.values;
  if (!asked.has("method")) values["method"] = spec.id;
  const ModuleNames names(adapter.model(), /*start=*/"");
  AdapterConfig wanted = in_own_names(adapter.model(), adapter_config_from_json(values, asked.where));
  wanted = names.for_model(names.for_file(std::move(wanted)));  // as the adapter's was written and read
  if (wanted.method != spec.id) refuse("method", wanted.method, spec.id, asked);
  check_config(adapter, wanted, asked);
  const Json own = spec.normalized(adapter.config().options, asked.where);
  std::vector<std::string> spent;  // a rank budget prunes once
  if (has_lost_components(adapter)) spent = BudgetOptions::training_options();
  const auto may_differ = [&](const std::string& key) {
    return !is_part && trains_only(spec, key) && std::find(spent.begin(), spent.end(), key) == spent.end();
  };
  const Json options = asked_options(spec, wanted, asked);
  Json others = Json::object();
  for (const auto& [key, value] : options.items()) {
    if (may_differ(key)) {
      if (!same(value, own[key]) || key == "total_step") others[key] = value;
    } else if (!same(value, own[key])) {
      refuse(key, value, own[key], asked);
    }
  }
  return others;
}

/// The further adapters that were asked for: a list, or null.
Json asked_beside(const Asked& asked) {
  AdapterConfig config;
  read_fields(fields_of(config), {{"beside", asked.values.value("beside", Json())}}, asked.where);
  return is_nothing(config.beside) ? Json() : config.beside;
}

void check_parts(const Adapter& adapter, const Asked& asked) {
  const Json beside = asked_beside(asked), own = adapter.spec().id;
  agreed(adapter.parts().front(), asked, /*is_part=*/true);
  if (beside.is_null()) return;
  if (!beside.is_array() || beside.size() + 1 != adapter.parts().size()) refuse("beside", beside, own, asked);
  for (size_t i = 0; i < beside.size(); ++i) {
    const Adapter& part = adapter.parts()[i + 1];
    const Asked entry{beside[i], fmt::format("{}, key \"beside\", entry {}", asked.where, i + 1)};
    const bool finished = entry.values.is_object() && entry.has("adapter_name_or_path");
    if (!entry.values.is_object() || finished != part.frozen()) refuse("beside", beside[i], part.spec().id, entry);
    if (!finished) agreed(part, entry, /*is_part=*/true);
  }
}

}  // namespace

std::string continued_method(const fs::path& adapter, const Json& asked, const std::string& where) {
  const AdapterFolder opened = open_adapter_folder(adapter);
  const AdapterFolder first = opened.parts.empty() ? opened : open_adapter_folder(opened.parts.front().folder);
  const std::string own = chosen_method(first.config, first.config_file().string());
  Json values = asked;
  if (values.value("method", Json()).is_null()) values["method"] = own;
  const std::string wanted = chosen_method(values, where);
  if (wanted != own) refuse("method", wanted, own, {asked, where});
  return own;
}

Adapter continued(const Model& model, RunSettings& settings) {
  const fs::path folder = settings.from.adapter_name_or_path;
  const Asked asked{settings.asked.keys, settings.asked.where};
  Adapter adapter = Adapter::load(model, folder, {.trainable = true});
  const std::string base = settings.adapter.base_model_name_or_path;
  if (!adapter.parts().empty()) {
    check_parts(adapter, asked);
    settings.adapter = AdapterConfig{.base_model_name_or_path = base};
    settings.several = true;
    return adapter;
  }
  if (const Json beside = asked_beside(asked); !beside.is_null()) refuse("beside", beside, Json(), asked);
  const Json others = agreed(adapter, asked);
  if (!others.empty()) adapter = Adapter::load(model, folder, {.trainable = true, .options = others});
  settings.adapter = adapter.config();
  settings.adapter.base_model_name_or_path = base;
  Json& options = settings.adapter.options;
  if (options.contains("total_step") && !others.contains("total_step") && !has_lost_components(adapter)) {
    options["total_step"] = 0;  // of the run that comes
  }
  return adapter;
}

}  // namespace deltaw::run

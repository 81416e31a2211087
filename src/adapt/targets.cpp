#include "adapt/targets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <set>

#include "adapt/ties.h"
#include "core/ascii.h"
#include "core/patterns.h"
#include "core/suggest.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/checkpoint.h"

namespace deltaw {
namespace {

// PEFT lists both for every sequence classifier, whichever the model has.
const std::set<std::string> kHeadNames = {"classifier", "score"};

std::vector<std::string> as_list(const Json& value) {
  if (value.is_null()) return {};
  if (value == "") return {};
  if (value.is_string()) return {value.get<std::string>()};
  return value.get<std::vector<std::string>>();
}

void check_names(const Json& value, const std::string& key) {
  const bool list =
      value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_string(); });
  if (value.is_null() || value.is_string() || list) return;
  throw Error({.id = "config.wrong-type",
               .what = fmt::format("{} = {}", key, value.dump()),
               .where = "key \"" + key + "\"",
               .fix = "give a list of module names or one regular expression"});
}

void check_names(const Json& targets, const AdapterConfig& config) {
  check_names(targets, "target_modules");
  check_names(config.exclude_modules, "exclude_modules");
  check_names(config.layers_pattern, "layers_pattern");
}

bool in_layers(const std::string& name, const AdapterConfig& config) {
  const Json& layers = config.layers_to_transform;
  if (layers.is_null() || (layers.is_array() && layers.empty())) return true;
  const auto number = layer_number(name, as_list(config.layers_pattern));
  int64_t index = 0;
  if (!number || std::from_chars(number->data(), number->data() + number->size(), index).ec != std::errc())
    return false;
  if (layers.is_array()) return std::find(layers.begin(), layers.end(), Json(index)) != layers.end();
  return layers.is_number_integer() && layers.get<int64_t>() == index;
}

// A whole name is meant, in whichever layer it stands.
bool names_whole(const Json& targets, const std::string& name) {
  return targets.is_array() && std::find(targets.begin(), targets.end(), Json(name)) != targets.end();
}

// What PEFT refuses too.
void check_layers(const AdapterConfig& config, bool expression) {
  const bool none = config.layers_to_transform.is_null();
  if (!none && expression) {
    throw Error({.id = "config.conflict",
                 .what = "layers_to_transform cannot be combined with a regular expression",
                 .where = "keys \"layers_to_transform\" and \"target_modules\"",
                 .fix = "select the layers in the expression, or give target_modules as a list"});
  }
  if (none && !as_list(config.layers_pattern).empty()) {
    throw Error(
        {.id = "config.conflict",
         .what = fmt::format("layers_pattern = {} says where the number of a layer stands, and none is asked for",
                             config.layers_pattern.dump()),
         .where = "keys \"layers_pattern\" and \"layers_to_transform\"",
         .fix = "give layers_to_transform too, or leave layers_pattern out"});
  }
}

// The last parts of all module names: what users write into target_modules.
std::vector<std::string> leaf_names(const Model& model) {
  std::set<std::string> names;
  for (const Layer* layer : model.layers()) names.insert(layer->name.substr(layer->name.rfind('.') + 1));
  return {names.begin(), names.end()};
}

/// What an entry of target_modules may be, but for whole paths.
std::vector<std::string> target_names(const Model& model) {
  std::vector<std::string> names = leaf_names(model);
  names.emplace_back("all-linear");
  return names;
}

void check_every_entry(const Model& model, const Json& targets, const std::vector<std::string>& never) {
  for (const Json& entry : targets) {
    const std::string suffix = entry.get<std::string>();
    const auto hit = [&](const std::string& name) { return has_suffix(name, suffix); };
    const auto& layers = model.layers();
    if (std::any_of(layers.begin(), layers.end(), [&](const Layer* l) { return hit(l->name); })) continue;
    const auto& modules = model.module_names();
    const bool exists = std::any_of(modules.begin(), modules.end(), hit);
    const bool saved = std::find(never.begin(), never.end(), suffix) != never.end();
    throw Error(
        {.id = "config.unmatched-target",
         .what = exists ? fmt::format("'{}' is no linear layer, Conv2d or embedding of the model", suffix)
                        : fmt::format("'{}' matches none of the model's {} linear layers, Conv2ds and embeddings",
                                      suffix, layers.size()),
         .where = "key \"target_modules\"",
         .fix = saved ? "leave it out: modules_to_save trains it whole"
                      : suggest_names(suffix, target_names(model), "`deltaw info MODEL --modules` lists them")});
  }
}

}  // namespace

std::optional<std::string> layer_number(const std::string& name, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return matched_group(R"(.*?\.[^.]*\.(?P<idx>\d+)\.)", "idx", name);
  for (const std::string& pattern : patterns) {
    const std::string whole = R"((?:^|.*?\.))" + pattern + R"(\.(?P<idx>\d+)\.)";
    if (const auto found = matched_group(whole, "idx", name)) return found;
  }
  return std::nullopt;
}

bool is_linear(const Layer& layer) {
  return layer.kind == LayerKind::linear || layer.kind == LayerKind::conv1d;
}

bool selects(const AdapterConfig& config, const Json& targets, const std::string& name) {
  if (!config.exclude_modules.is_null() && names_module(config.exclude_modules, name)) return false;
  if (!targets.is_null() && !is_all_linear(targets) && !names_module(targets, name)) return false;
  return names_whole(targets, name) || in_layers(name, config);
}

void check_selection(const AdapterConfig& config) {
  const Json& targets = config.target_modules;
  check_names(targets, config);
  const bool expression = targets.is_string() && !is_all_linear(targets);
  check_layers(config, expression && find_method(config.method).on_layers());
}

Json effective_targets(const Model& model, const AdapterConfig& config, const MethodSpec& spec) {
  if (!config.target_modules.is_null()) return config.target_modules;
  if (const FamilySpec* family = model.family()) {
    if (Json targets = spec.default_targets(*family); !targets.is_null()) return targets;
  }
  const std::string type = model.config().value(io::model_type_key(model.config()), std::string());
  throw Error({.id = "config.no-target",
               .what = "no default target_modules for model_type '" + type + "'",
               .where = "key \"target_modules\"",
               .fix = "give target_modules, or \"all-linear\""});
}

bool is_all_linear(const Json& targets) {
  return targets.is_string() && lower(targets.get_ref<const std::string&>()) == "all-linear";
}

std::string escaped(const std::string& name) {
  std::string result;
  for (const char c : name) {
    if (c != '_' && std::isalnum(static_cast<unsigned char>(c)) == 0) result += '\\';
    result += c;
  }
  return result;
}

void exclude_scope(AdapterConfig& config, std::string_view scope) {
  std::vector<std::string> expressions = {escaped(std::string(scope)) + ".*"};
  const Json& excluded = config.exclude_modules;
  if (excluded.is_string()) expressions.push_back(excluded.get<std::string>());
  if (excluded.is_array()) {
    for (const Json& name : excluded) {
      expressions.push_back(fmt::format("(.*\\.)?{}", escaped(name.get<std::string>())));
    }
  }
  config.exclude_modules = fmt::format("{}", fmt::join(expressions, "|"));
}

bool stands_below(const std::string& name, const std::string& module) {
  return full_match("(.*\\.)?(" + module + ")(\\..*)?", name);
}

bool saves_head(const Model& model) {
  return !model.head_spec().weight.empty();
}

std::vector<const Layer*> find_targets(const Model& model, const AdapterConfig& given, const MethodSpec& spec,
                                       Purpose purpose) {
  const Ties ties = find_ties(model, given);
  const AdapterConfig config = ties.applied(given);
  const Json targets = effective_targets(model, config, spec);
  check_names(targets, config);
  std::vector<std::string> never = config.modules_to_save;
  const bool all_linear = is_all_linear(targets);
  const bool with_task = purpose == Purpose::training || !config.task_type.empty();
  // A head of the vocabulary is targeted where it is named.
  if (!model.head().empty() && (saves_head(model) ? with_task : all_linear)) never.push_back(model.head());
  check_layers(config, targets.is_string() && !all_linear);
  if (targets.is_array() && purpose == Purpose::training) check_every_entry(model, targets, never);

  std::vector<const Layer*> found;
  for (const Layer* layer : model.layers()) {
    if (ties.targets && layer == ties.head) {  // whatever else is said of it
      found.push_back(layer);
      continue;
    }
    const auto saved = [&](const std::string& module) {
      // as find_saved takes modules: "classifier" is DistilBERT's pre_classifier too
      return stands_below(layer->name, module) || (all_linear && !module.empty() && layer->name.ends_with(module));
    };
    if (std::any_of(never.begin(), never.end(), saved)) continue;
    if ((all_linear && !is_linear(*layer)) || !selects(config, targets, layer->name)) continue;
    found.push_back(layer);
  }
  if (!found.empty()) return found;
  throw Error(
      {.id = "config.no-target",
       .what = fmt::format("target_modules = {} selects none of the model's {} linear layers, Conv2ds and embeddings",
                           targets.dump(), model.layers().size()),
       .where = "keys \"target_modules\", \"exclude_modules\", \"layers_to_transform\"",
       .fix = "`deltaw info MODEL --modules` lists the names"});
}

std::vector<const Parameter*> find_base_tensors(const Model& model, const AdapterConfig& config,
                                                const MethodSpec& spec) {
  std::vector<const Parameter*> found;
  if (!spec.on_base()) return found;
  check_names(config.target_modules, config);
  const std::set<std::string> norms = [&] {
    std::set<std::string> names;
    for (const Norm& norm : model.norms()) names.insert(norm.name);
    return names;
  }();
  const Json& targets = config.target_modules;
  const bool chosen = !spec.on_layers() && !targets.empty() && !is_all_linear(targets);
  if (!spec.on_layers()) check_layers(config, /*expression=*/false);
  for (const Parameter* parameter : model.parameters()) {
    if (!parameter->exists() || !parameter->tied_to.empty()) continue;
    const std::string module = parameter->name.substr(0, parameter->name.rfind('.'));
    const bool wanted = spec.on(ActsOn::every_tensor) ||
                        (spec.on(ActsOn::biases) && parameter->name.ends_with(".bias")) ||
                        (spec.on(ActsOn::norms) && norms.contains(module));
    if (!wanted) continue;
    if (chosen && !names_module(targets, module)) continue;
    if (!config.exclude_modules.is_null() && names_module(config.exclude_modules, module)) continue;
    if (!spec.on_layers() && !names_whole(targets, module) && !in_layers(module, config)) continue;
    found.push_back(parameter);
  }
  if (!found.empty() || spec.on_layers()) return found;
  throw Error({.id = "config.no-target",
               .what = fmt::format("{} finds none of the tensors that it trains", spec.title),
               .where = "keys \"target_modules\", \"exclude_modules\", \"layers_to_transform\"",
               .fix = "leave target_modules out for all, or see `deltaw info MODEL --modules` for the names"});
}

std::vector<const Parameter*> find_saved(const Model& model, const std::vector<std::string>& modules_to_save,
                                         Purpose purpose) {
  std::set<int64_t> slots;
  for (const std::string& entry : modules_to_save) {
    bool any = false;
    for (const std::string& module : model.module_names()) {
      if (entry.empty() || !module.ends_with(entry)) continue;
      for (const Parameter* parameter : model.parameters()) {
        const bool below = parameter->name == module || parameter->name.starts_with(module + ".");
        if (!parameter->exists() || !below) continue;
        slots.insert(parameter->slot);
        any = true;
      }
    }
    if (any || purpose == Purpose::reading || kHeadNames.contains(entry)) continue;
    throw Error({.id = "config.unmatched-module",
                 .what = fmt::format("'{}' names no module of the model", entry),
                 .where = "key \"modules_to_save\"",
                 .fix = suggest_names(entry, model.module_names(), "`deltaw info MODEL --modules` lists them")});
  }
  std::vector<const Parameter*> found;
  for (const int64_t slot : slots) found.push_back(model.parameters()[slot]);
  return found;
}

}  // namespace deltaw

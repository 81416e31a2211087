#include "adapt/ties.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "adapt/targets.h"
#include "core/patterns.h"

namespace deltaw {
namespace {

// PEFT's EMBEDDING_LAYER_NAMES.
const std::set<std::string> kEndNames = {"embed_tokens", "lm_head"};

bool names_an_end(const std::string& module) {
  return kEndNames.contains(module.substr(module.rfind('.') + 1));
}

bool names_an_end(const Json& targets) {
  if (targets.is_string()) {
    const auto taken = [&](const std::string& name) { return full_match(targets.get<std::string>(), name); };
    return !is_all_linear(targets) && std::any_of(kEndNames.begin(), kEndNames.end(), taken);
  }
  return targets.is_array() && std::any_of(targets.begin(), targets.end(), [](const Json& entry) {
           return entry.is_string() && names_an_end(entry.get<std::string>());
         });
}

}  // namespace

Ties find_ties(const Model& model, const AdapterConfig& config) {
  Ties ties;
  const Layer* head = model.head_layer();
  if (!head || head->weight.tied_to.empty()) return ties;
  ties.head = head;
  for (const Layer* layer : model.layers()) {
    if (layer->weight.name == head->weight.tied_to) ties.words = layer;
  }
  if (!config.ensure_weight_tying || !ties.words) return ties;
  const auto& saved = config.modules_to_save;
  ties.modules = std::any_of(saved.begin(), saved.end(), [](const std::string& name) { return names_an_end(name); });
  ties.targets = !ties.modules && names_an_end(config.target_modules) && find_method(config.method).ties_factors;
  return ties;
}

AdapterConfig Ties::applied(AdapterConfig config) const {
  if (modules) {
    auto& saved = config.modules_to_save;
    std::erase_if(saved, [&](const std::string& module) { return stands_below(head->name, module); });
    if (std::find(saved.begin(), saved.end(), words->name) == saved.end()) saved.push_back(words->name);
  } else if (targets && config.target_modules.is_string()) {
    config.target_modules = fmt::format("(?:{}|^{}$)", config.target_modules.get<std::string>(), escaped(words->name));
  } else if (targets) {
    config.target_modules.push_back(words->name);
  }
  return config;
}

}  // namespace deltaw

#include "adapt/peft_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "adapt/names_in_memory.h"
#include "adapt/targets.h"
#include "adapt/training_keys.h"
#include "core/ascii.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/checkpoint.h"

namespace deltaw {
namespace {

template <class T>
bool contains(const std::vector<T>& list, const T& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// The peft_type of the method that a file of this type holds.
std::string own_type(const std::string& type) {
  for (const MethodSpec* spec : method_table()) {
    if (spec->peft_settings.empty() && contains(spec->other_peft_types, type)) return spec->peft_type;
  }
  return type;
}

std::vector<std::string> unused_keys(const std::string& type) {
  std::vector<std::string> keys;
  for (const MethodSpec* spec : method_table()) {
    if (spec->peft_type != type || !spec->in_peft) continue;
    keys.insert(keys.end(), spec->in_peft->unused_keys.begin(), spec->in_peft->unused_keys.end());
  }
  return keys;
}

const char* kind_name(LayerKind kind) {
  switch (kind) {
    case LayerKind::conv1d:
      return "Conv1D";
    case LayerKind::conv2d:
      return "Conv2d";
    case LayerKind::embedding:
      return "an embedding";
    default:
      return "a linear layer";
  }
}

bool is_peft_task(const std::string& task) {
  constexpr const char* kTasks[] = {"SEQ_CLS",   "SEQ_2_SEQ_LM", "CAUSAL_LM",
                                    "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"};
  return std::find(std::begin(kTasks), std::end(kTasks), task) != std::end(kTasks);
}

// Its four layers are one module, which takes the weight of the last one by itself.
bool stands_in_torchs_attention(const Model& model, const std::string& name) {
  constexpr std::string_view kLast = "out_proj";
  if (!name.ends_with(kLast)) return false;
  const std::string first = name.substr(0, name.size() - kLast.size()) + "in_proj_weight";
  const auto& parameters = model.parameters();
  return std::any_of(parameters.begin(), parameters.end(), [&](const Parameter* p) { return p->name == first; });
}

}  // namespace

Json without_training(Json config) {
  for (const auto& [key, what] : training_only_keys()) config.erase(key);
  if (const auto type = config.find("peft_type"); type != config.end() && type->is_string()) {
    *type = own_type(type->get<std::string>());
    for (const std::string& key : unused_keys(*type)) config.erase(key);
  }
  const auto start = config.find("init_lora_weights");
  if (start != config.end() && start->is_string()) {
    const std::string name = lower(start->get<std::string>());
    *start = name == "mica" ? Json(true) : Json(name);  // the file holds a plain LoRA
  }
  if (config.value("init_lora_weights", Json()) != "loftq") config.erase("loftq_config");
  return config;
}

bool peft_has_key(const MethodSpec& spec, const std::string& key) {
  return !spec.in_peft || !contains(spec.in_peft->lacking_keys, key);
}

bool peft_names_heads(const FamilySpec& family) {
  return std::any_of(family.heads.begin(), family.heads.end(),
                     [](const HeadSpec& head) { return is_peft_task(head.task_type); });
}

void name_task_for_peft(Json& config, const Model& model) {
  const Json task = config.value("task_type", Json());
  if (!task.is_string() || is_peft_task(task)) return;
  Json mapping = {{"task", task}};
  if (!model.architecture().empty() && model.family()) {
    std::string module = model.family()->model_type;
    std::replace(module.begin(), module.end(), '-', '_');
    mapping["base_model_class"] = model.architecture();
    mapping["parent_library"] = io::is_diffusers(model.config())
                                    ? "diffusers"
                                    : fmt::format("transformers.models.{}.modeling_{}", module, module);
  }
  config["task_type"] = nullptr;
  config["auto_mapping"] = std::move(mapping);
}

Json with_task(Json config) {
  const Json mapping = config.value("auto_mapping", Json());
  const Json task = mapping.is_object() ? mapping.value("task", Json()) : Json();
  if (task.is_string() && config.value("task_type", Json()).is_null()) config["task_type"] = task;
  return config;
}

std::string task_of_class(const Json& config) {
  const Json mapping = config.value("auto_mapping", Json());
  const Json name = mapping.is_object() ? mapping.value("base_model_class", Json()) : Json();
  for (const FamilySpec* family : family_table()) {
    for (const HeadSpec& head : family->heads) {
      if (name.is_string() && name == head.architecture) return head.task_type;
    }
  }
  return {};
}

void widen_for_peft(Json& config) {
  const auto feed = config.find("feedforward_modules"), targets = config.find("target_modules");
  if (feed == config.end() || !feed->is_array() || targets == config.end() || !targets->is_array()) return;
  const auto listed = [&](const Json& name) {
    return std::find(targets->begin(), targets->end(), name) != targets->end();
  };
  if (std::all_of(feed->begin(), feed->end(), listed)) return;
  std::vector<std::string> endings;
  for (const Json& name : *feed) endings.push_back(escaped(name.get<std::string>()));
  *feed = fmt::format(".*(?:{})", fmt::join(endings, "|"));
}

std::vector<std::string> peft_differences(const Adapter& adapter) {
  std::vector<std::string> found;
  const MethodSpec& spec = adapter.spec();
  if (!spec.in_peft) return found;
  const auto say = [&](const std::string& what) {
    found.push_back(what + "; `deltaw export` writes a LoRA that PEFT reads as it is");
  };
  std::vector<LayerInfo> infos;
  std::set<LayerKind> refused;
  for (const AdaptedLayer* layer : adapter.layers()) {
    infos.push_back(layer->info);
    const LayerKind kind = layer->info.kind;
    if (kind == LayerKind::linear || contains(spec.in_peft->kinds, kind) || !refused.insert(kind).second) continue;
    say(fmt::format("PEFT has no {} for {} ('{}') and refuses the adapter", spec.title, kind_name(kind),
                    layer->info.name));
  }
  for (const AdaptedLayer* layer : adapter.layers()) {
    const std::vector<std::string> parts = split_in_memory(adapter.model(), layer->info.name);
    if (parts.empty()) continue;
    found.push_back(
        fmt::format("transformers 5 splits '{}' into '{}', so that PEFT cannot read its update; `deltaw merge` "
                    "writes a checkpoint that transformers reads",
                    layer->info.name, fmt::join(parts, "' and '")));
    break;
  }
  for (const AdaptedLayer* layer : adapter.layers()) {
    if (!stands_in_torchs_attention(adapter.model(), layer->info.name)) continue;
    found.push_back(
        fmt::format("PEFT computes without the update of '{}', whose weight torch's MultiheadAttention reads past it; "
                    "`deltaw merge` writes a checkpoint that has it",
                    layer->info.name));
  }
  if (spec.in_peft->differences) {
    for (const std::string& difference : spec.in_peft->differences(adapter.config().options, infos)) say(difference);
  }
  if (!peft_has_key(spec, "trainable_token_indices") && !adapter.config().trainable_token_indices.is_null()) {
    found.push_back(
        fmt::format("PEFT has no trainable_token_indices for {} and passes the trained rows over", spec.title));
  }
  return found;
}

}  // namespace deltaw

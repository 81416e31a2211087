#include "adapt/peft_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "adapt/targets.h"
#include "adapt/training_keys.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

// By PEFT type: which of AdapterConfig's keys about layers its configuration lacks. All have target_modules and
// modules_to_save.
const std::map<std::string, std::set<std::string>> kLacking = {
    {"LORA", {}},
    {"ADALORA", {}},
    {"LOHA", {"trainable_token_indices"}},
    {"LOKR", {"trainable_token_indices"}},
    {"OFT", {"trainable_token_indices"}},
    {"IA3", {"trainable_token_indices", "layers_to_transform", "layers_pattern"}},
    {"RANDLORA", {"trainable_token_indices", "exclude_modules"}},
    {"VERA", {"trainable_token_indices", "exclude_modules"}},
};

// The kinds of layers that PEFT adapts, besides linear ones.
const std::map<std::string, std::set<LayerKind>> kOtherKinds = {
    {"LORA", {LayerKind::conv1d, LayerKind::conv2d, LayerKind::embedding}},
    {"ADALORA", {LayerKind::conv1d, LayerKind::conv2d}},
    {"LOHA", {LayerKind::conv2d}},
    {"LOKR", {LayerKind::conv2d}},
    {"OFT", {LayerKind::conv2d, LayerKind::embedding}},
    {"IA3", {LayerKind::conv1d, LayerKind::conv2d}},
    {"RANDLORA", {LayerKind::conv1d}},
    {"VERA", {LayerKind::conv1d}},
};

// What they do, for a message.
constexpr const char* kMakesTokens = "makes the virtual tokens by a network while they train";
const std::map<std::string, const char*> kTrainingOnly = {
    {"module_dropout", "leaves out the update of whole layers at random while it trains"},
    {"rank_dropout", "drops components at random while they train"},
    {"rank_dropout_scale", "scales what rank_dropout leaves"},
    {"prefix_projection", kMakesTokens},
    {"encoder_reparameterization_type", kMakesTokens},
    {"encoder_hidden_size", kMakesTokens},
    {"encoder_num_layers", kMakesTokens},
    {"encoder_dropout", kMakesTokens}};

// LoRA's keys that PEFT's AdaLoRA inherits and does not use.
const std::set<std::string> kUnusedByAdaLora = {"use_rslora", "alpha_pattern", "init_lora_weights", "lora_bias",
                                                "eva_config", "corda_config",  "lora_ga_config"};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
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

std::string start_of(const Adapter& adapter) {
  const Json& options = adapter.config().options;
  const auto start = options.find("init_lora_weights");
  return start != options.end() && start->is_string() ? start->get<std::string>() : "";
}

}  // namespace

Json without_training(Json config) {
  for (const auto& [key, what] : kTrainingOnly) config.erase(key);
  if (const auto type = config.find("peft_type"); type != config.end() && *type == "P_TUNING") {
    *type = "PROMPT_TUNING";  // the file holds what the network made
  }
  if (config.value("peft_type", Json()) == "ADALORA") {
    for (const std::string& key : kUnusedByAdaLora) config.erase(key);
  }
  const auto start = config.find("init_lora_weights");
  if (start != config.end() && start->is_string()) {
    const std::string name = lower(start->get<std::string>());
    *start = name == "mica" ? Json(true) : Json(name);  // the file holds a plain LoRA
  }
  if (config.value("init_lora_weights", Json()) != "loftq") config.erase("loftq_config");
  return config;
}

void refuse_training_key(const std::string& key, const std::string& where) {
  const auto known = kTrainingOnly.find(key);
  if (known == kTrainingOnly.end()) return;
  throw Error(
      {.id = "config.unsupported",
       .what = fmt::format("{}, which in PEFT {}, is not implemented here", key, known->second),
       .where = fmt::format("{}, key '{}'", where, key),
       .fix = "leave it out to train without it; an adapter that PEFT trained with it needs no key to be read"});
}

bool peft_has_key(const std::string& peft_type, const std::string& key) {
  const auto lacking = kLacking.find(peft_type);
  return lacking == kLacking.end() || !lacking->second.contains(key);
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
  const std::string& type = adapter.spec().peft_type;
  const auto kinds = kOtherKinds.find(type);
  if (kinds == kOtherKinds.end()) return found;
  const std::string& title = adapter.spec().title;
  const auto say = [&](const std::string& what) {
    found.push_back(what + "; `deltaw export` writes a LoRA that PEFT reads as it is");
  };
  const std::string start = start_of(adapter);
  bool on_conv1d = false;
  std::set<LayerKind> refused;
  for (const AdaptedLayer* layer : adapter.layers()) {
    const LayerKind kind = layer->info.kind;
    on_conv1d |= kind == LayerKind::conv1d;
    if (kind == LayerKind::linear || kinds->second.contains(kind) || !refused.insert(kind).second) continue;
    say(fmt::format("PEFT has no {} for {} ('{}') and refuses the adapter", title, kind_name(kind), layer->info.name));
  }
  const bool biased = adapter.config().options.value("lora_bias", Json()) == true;
  if (biased && !adapter.config().options.value("init_lora_weights", Json(true)).is_boolean()) {
    say(fmt::format("PEFT refuses lora_bias with the start {}", start));
  }
  if (start == "olora" && on_conv1d) say("PEFT cannot read OLoRA on Conv1D");
  if (start.starts_with("pissa_niter_")) say("PEFT draws the start " + start + " anew and computes other outputs");
  if (adapter.config().options.value("randlora_scaling", "r") == "r_sqrt_n") {
    say("PEFT has no randlora_scaling and takes alpha / r for the scale, which is sqrt(n) times as large");
  }
  if (!peft_has_key(type, "trainable_token_indices") && !adapter.config().trainable_token_indices.is_null()) {
    found.push_back(fmt::format("PEFT has no trainable_token_indices for {} and passes the trained rows over", title));
  }
  return found;
}

}  // namespace deltaw

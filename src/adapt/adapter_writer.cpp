// adapter_config.json and adapter_model.safetensors written, as PEFT lays them out.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "adapt/adapter_file.h"
#include "adapt/adapter_folder.h"
#include "adapt/added_rows.h"
#include "adapt/builder.h"
#include "adapt/config.h"
#include "adapt/module_names.h"
#include "adapt/peft_format.h"
#include "core/files.h"
#include "core/output_folder.h"
#include "core/scratch_folder.h"
#include "deltaw/error.h"
#include "io/safetensors.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {

namespace {

using KeptRanks = std::map<std::string, std::vector<bool>>;

// The components that the file keeps of every layer that has dead ones, or of all where a budget has pruned.
KeptRanks kept_components(const Adapter& adapter) {
  const auto budget = adapter.method().rank_budget();
  if (!budget || budget->allocated) return adapter.kept_ranks;
  KeptRanks kept;
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Tensor alive = layer->params[budget->gate.param].detach().ne(0).flatten().contiguous();
    if (ops::host_flag(alive.all())) continue;
    kept[layer->info.name] = std::vector<bool>(alive.data_ptr<bool>(), alive.data_ptr<bool>() + alive.numel());
  }
  return kept;
}

// A layer's tensors without its dead components.
Params pruned(const Adapter& adapter, const KeptRanks& all_kept, const AdaptedLayer& layer) {
  const auto kept = all_kept.find(layer.info.name);
  const auto budget = adapter.method().rank_budget();
  if (kept == all_kept.end() || !budget) return layer.params;
  std::vector<int64_t> alive;
  for (size_t i = 0; i < kept->second.size(); ++i) {
    if (kept->second[i]) alive.push_back(static_cast<int64_t>(i));
  }
  Params params = layer.params;
  for (Param& param : params.all()) {
    for (const Scored& scored : budget->scored) {
      if (scored.param != param.name) continue;
      param.value = param.value.detach().index_select(scored.axis, at::tensor(alive, at::kLong));
    }
  }
  return adapter.method().compact(layer.info, std::move(params));
}

std::vector<NamedTensor> file_tensors(const Adapter& adapter, const ModuleNames& names, const KeptRanks& kept) {
  std::vector<NamedTensor> tensors;
  for (const Param& param : adapter.whole().all()) tensors.push_back({param.file_name, param.value});
  for (const AdaptedLayer* layer : adapter.layers()) {
    const Params params = pruned(adapter, kept, *layer);
    for (const Param& param : params.all()) {
      if (param.saved) tensors.push_back({kModel + layer->info.name + "." + param.file_name, in_file(param)});
    }
  }
  for (const Parameter* parameter : adapter.model().parameters()) {
    if (adapter.overrides(*parameter)) {
      tensors.push_back({base_prefix(adapter) + override_name(adapter, *parameter), adapter.value(*parameter)});
    }
    if (const TrainedTokens* tokens = own_tokens(adapter, *parameter)) {
      tensors.push_back({kModel + tokens_name(*parameter), tokens->rows});
    }
  }
  for (const auto& [slot, value] : adapter.set_aside()) {
    const Parameter& parameter = *adapter.model().parameters()[static_cast<size_t>(slot)];
    tensors.push_back({base_prefix(adapter) + override_name(adapter, parameter), value});
  }
  const Layer* words = word_embedding_of(adapter.model());
  if (words && adapter.overrides(words->weight) && adapter.virtual_tokens().embeddings.defined()) {
    tensors.push_back({kPromptWords, adapter.value(words->weight)});
  }
  if (adapter.method().saves_shared()) {
    for (const Param& param : adapter.shared().all()) tensors.push_back({kShared + param.file_name, param.value});
  }
  for (const NamedTensor& tensor : resized_weights(adapter)) {
    tensors.push_back({base_prefix(adapter) + tensor.name, tensor.value});
  }
  for (NamedTensor& tensor : tensors) tensor = {names.in_file(tensor.name), tensor.value.detach().contiguous()};
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return tensors;
}

// What is left of the components that a layer began with, where `alive` counts those that an earlier run left it.
Json alive_at_first(const Json& before, const std::vector<bool>& alive) {
  const auto left = static_cast<size_t>(std::count(before.begin(), before.end(), Json(true)));
  if (!before.is_array() || left != alive.size()) return alive;
  Json flags = Json::array();
  size_t next = 0;
  for (const Json& flag : before) flags.push_back(flag == true && alive[next++]);
  return flags;
}

void refuse_to_save_non_finite(const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& tensor : tensors) {
    if (ops::host_flag(tensor.value.isfinite().all())) continue;
    throw Error({.id = "numeric.non-finite",
                 .what = "the adapter holds values that are not finite, and is not saved",
                 .where = tensor.name,
                 .fix = "train again with a lower learning rate"});
  }
}

// Whether PEFT finds the layers by what is asked for: it has no defaults for every model, and not every key.
bool peft_finds_targets(const MethodSpec& spec, const AdapterConfig& config) {
  if (config.target_modules.is_null()) return false;
  if (is_all_linear(config.target_modules) && !config.layers_to_transform.is_null()) return false;
  const std::pair<const char*, const Json*> keys[] = {{"exclude_modules", &config.exclude_modules},
                                                      {"layers_to_transform", &config.layers_to_transform},
                                                      {"layers_pattern", &config.layers_pattern}};
  return std::all_of(std::begin(keys), std::end(keys),
                     [&](const auto& key) { return key.second->is_null() || peft_has_key(spec, key.first); });
}

}  // namespace

void Adapter::save(const std::filesystem::path& folder) const {
  if (!is_in_scratch(folder)) {
    return add_to_folder(folder, [&](const std::filesystem::path& inside) { save(inside); },
                         {.outdated = is_adapter_name});
  }
  if (!parts_.empty()) {
    save_parts(folder);
    return;
  }
  AdapterConfig config = config_;
  if (config.base_model_name_or_path.empty()) config.base_model_name_or_path = model_->folder().string();
  const KeptRanks kept = kept_components(*this);
  if (!kept.empty()) {
    const RankBudget budget = *method_->rank_budget();
    Json& pattern = config.options[budget.pattern];
    if (!pattern.is_object()) pattern = Json::object();
    for (const auto& [name, alive] : kept) {
      const std::string key = name + "." + budget.gate.param;
      pattern[key] = alive_at_first(pattern.value(key, Json()), alive);
    }
    if (!budget.compact.empty()) config.options[budget.compact] = true;
  }
  const ModuleNames names(*model_, base_prefix(*this));
  config = names.for_file(std::move(config));
  Json json = adapter_config_to_json(config);
  if (spec_->on_layers() && !peft_finds_targets(*spec_, config)) {
    json["target_modules"] = target_names();
    for (Json& name : json["target_modules"]) name = names.module_in_file(name.get<std::string>());
    for (const char* key : {"exclude_modules", "layers_to_transform", "layers_pattern"}) json[key] = nullptr;
  }
  if (const auto feed = json.find("feedforward_modules"); feed != json.end() && feed->is_null()) {
    *feed = Json::array();  // PEFT knows those of few families
    for (const AdaptedLayer* layer : ordered_) {
      if (layer->info.feed_forward) feed->push_back(names.module_in_file(layer->info.name));
    }
  }
  widen_for_peft(json);
  name_task_for_peft(json, *model_);

  if (spec_->on(ActsOn::virtual_tokens)) {  // PEFT builds the tensor from these
    const ModelShape& shape = model_->shape();
    const VirtualTokens tokens = virtual_tokens();
    const bool prefix = tokens.prefix.defined();
    json.update({{"token_dim", prefix ? shape.prefix_width : tokens.embeddings.size(1)},
                 {"num_layers", shape.layers},
                 {"num_attention_heads", prefix ? shape.prefix_heads : shape.heads},
                 {"num_transformer_submodules", 1}});
    if (json.value("tokenizer_name_or_path", "none") == "")  // without which PEFT reads no prompt that began as a text
      json["tokenizer_name_or_path"] = json["base_model_name_or_path"];
  }

  const std::vector<NamedTensor> tensors = file_tensors(*this, names, kept);
  refuse_to_save_non_finite(tensors);
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  std::map<std::string, std::string> metadata{{"format", "pt"}, {"labels", Json(model_->label_names()).dump()}};
  metadata["problem_type"] = model_->config().value("problem_type", std::string());
  if (!shared_.empty()) metadata["shared_hash"] = hash_of(shared_);
  io::write_safetensors(folder / "adapter_model.safetensors", bytes, metadata);
  write_json(folder / "adapter_config.json", json, KeyOrder::outermost_sorted);
}

Json Adapter::target_names() const {
  std::vector<std::string> names;
  for (const AdaptedLayer* layer : ordered_) names.push_back(layer->info.name);
  return names;
}

// Each part in a folder of its own, as if it stood alone, and what is to be made of them.
void Adapter::save_parts(const std::filesystem::path& folder) const {
  Json parts = Json::array();
  for (size_t i = 0; i < parts_.size(); ++i) {
    const std::string name = fmt::format("{}-{}", i, parts_[i].spec_->id);
    std::filesystem::create_directories(folder / name);
    parts_[i].save(folder / name);
    parts.push_back({{"folder", name}, {"weight", weights_[i]}, {"frozen", parts_[i].frozen_}});
  }
  const Json first = read_json(folder / parts[0]["folder"].get<std::string>() / "adapter_config.json");
  write_json(folder / "adapter_config.json", {{"peft_type", spec_->peft_type},
                                              {"method", spec_->id},
                                              {"base_model_name_or_path", first["base_model_name_or_path"]},
                                              {"task_type", first["task_type"]},
                                              {"auto_mapping", first["auto_mapping"]},
                                              {"parts", parts}});
}

}  // namespace deltaw

#include "adapt/added_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "adapt/adapter_folder.h"
#include "adapt/targets.h"
#include "adapt/tensor_names.h"
#include "adapt/ties.h"
#include "core/log.h"
#include "core/patterns.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/safetensors.h"
#include "models/loader.h"

namespace deltaw {
namespace {

std::string last_part(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

// The last parts of the names that embeddings and heads of causal models have.
std::set<std::string> vocabulary_modules() {
  std::set<std::string> names;
  for (const FamilySpec* family : family_table()) {
    const HeadSpec* head = family->head("CAUSAL_LM");
    if (!head) continue;
    names.insert(last_part(family->word_embeddings));
    names.insert(last_part(head->module));
  }
  return names;
}

[[noreturn]] void refuse_tokens(const std::string& what, const std::string& fix) {
  throw Error({.id = "config.tokens", .what = what, .where = "key \"trainable_token_indices\"", .fix = fix});
}

// More than any vocabulary has: an id beyond is a mistake, which the adapter's reader names.
constexpr int64_t kMostRows = int64_t{1} << 22;

// The slots of the parameters that the adapter trains without trainable_token_indices.
std::set<int64_t> trained_slots(const Model& model, const AdapterConfig& config, const MethodSpec& spec) {
  std::set<int64_t> slots;
  const Ties ties = find_ties(model, config);
  for (const Parameter* parameter : find_saved(model, ties.applied(config).modules_to_save))
    slots.insert(parameter->slot);
  if (ties.modules) slots.insert(ties.head->weight.slot);
  for (const Parameter* parameter : find_base_tensors(model, config, spec)) slots.insert(parameter->slot);
  if (!spec.on_layers()) return slots;
  for (const Layer* layer : find_targets(model, config, spec)) slots.insert(layer->weight.slot);
  return slots;
}

void add_ids(Json& list, const std::vector<int64_t>& ids) {
  if (!list.is_array()) list = list.is_null() ? Json::array() : Json::array({list});
  for (const int64_t id : ids) {
    if (std::find(list.begin(), list.end(), Json(id)) == list.end()) list.push_back(id);
  }
}

// trainable_token_indices as a map from the names of modules.
Json by_module(const Json& indices, const std::string& words) {
  if (indices.is_object()) return indices;
  Json map = Json::object();
  if (!indices.is_null()) map[words] = indices;
  return map;
}

int64_t highest(const Json& indices) {
  int64_t most = -1;
  if (indices.is_number_integer()) return indices.get<int64_t>();
  if (!indices.is_structured()) return most;
  for (const Json& entry : indices) most = std::max(most, highest(entry));
  return most;
}

}  // namespace

const Layer* word_embedding_of(const Model& model) {
  const FamilySpec* family = model.family();
  for (const Layer* layer : model.layers()) {
    // The bare base model leaves its prefix out of the name.
    if (family ? has_suffix(family->word_embeddings, layer->name) : layer->kind == LayerKind::embedding) return layer;
  }
  return nullptr;
}

const TrainedTokens* own_tokens(const Adapter& adapter, const Parameter& parameter) {
  const TrainedTokens* tokens = adapter.tokens(parameter);
  if (!tokens || parameter.tied_to.empty()) return tokens;
  for (const Parameter* source : adapter.model().parameters()) {
    const TrainedTokens* theirs = source->name == parameter.tied_to ? adapter.tokens(*source) : nullptr;
    if (theirs && theirs->rows.is_same(tokens->rows)) return nullptr;
  }
  return tokens;
}

std::map<const Layer*, std::vector<int64_t>> tokens_by_table(const Model& model, const Json& wanted, Purpose purpose) {
  std::vector<const Layer*> tables;
  for (const Layer* layer : model.layers()) {
    if (layer->kind == LayerKind::embedding) tables.push_back(layer);
  }
  std::map<const Layer*, std::vector<int64_t>> found;
  const auto add = [&](const Layer& table, const Json& indices) {
    const int64_t rows = table.weight.value.size(0);
    std::set<int64_t> seen;
    for (const Json& index : indices.is_array() ? indices : Json::array({indices})) {
      const int64_t id = index.is_number_integer() ? index.get<int64_t>() : -1;
      const bool twice = !seen.insert(id).second && purpose == Purpose::training;
      if (id < 0 || id >= rows || twice) {
        refuse_tokens(fmt::format("{} is no row of '{}', or stands there twice", index.dump(), table.name),
                      fmt::format("give ids from 0 to {}, each once", rows - 1));
      }
      found[&table].push_back(id);
    }
    if (found[&table].empty()) refuse_tokens("the list is empty", "give the ids of the tokens, or leave the key out");
  };
  const Layer* words = word_embedding_of(model);
  if (!words) refuse_tokens("the model has no embedding", "leave the key out");
  if (!wanted.is_object()) {
    add(*words, wanted);
    return found;
  }
  const Layer* head = model.head_layer();
  if (head && !saves_head(model)) tables.push_back(head);
  for (const auto& [name, indices] : wanted.items()) {
    const auto table = std::find_if(tables.begin(), tables.end(),
                                    [&, &end = name](const Layer* layer) { return has_suffix(layer->name, end); });
    if (table == tables.end()) {
      refuse_tokens(fmt::format("'{}' is neither an embedding nor the head of the model", name),
                    "name one: " + words->name);
    }
    add(**table, indices);
  }
  if (head && !head->weight.tied_to.empty() && found.contains(head) && found.contains(words) &&
      found[head] == found[words]) {
    found.erase(head);
  }
  return found;
}

std::vector<std::string> base_copies(const std::string& module) {
  return {module + ".original_module.weight", module + ".token_adapter.base_layer.weight",
          module + ".base_layer.weight", module + ".weight"};
}

std::vector<NamedTensor> resized_weights(const Adapter& adapter) {
  std::vector<NamedTensor> tensors;
  const Model& model = adapter.model();
  const auto& resized = model.added_rows();
  if (resized.empty()) return tensors;
  for (const Layer* layer : model.layers()) {
    const Parameter& weight = layer->weight;
    const bool tied = !weight.tied_to.empty();
    const auto rows = resized.find(tied ? weight.tied_to : weight.name);
    if (rows == resized.end()) continue;
    const bool replaced = adapter.overrides(weight);
    if (tied) {  // PEFT fills it from the embedding's copy, unless that trains as a whole
      const Layer* words = word_embedding_of(model);
      if (replaced || adapter.tokens(weight) || adapter.layer(*layer) || !adapter.overrides(words->weight)) continue;
    }
    const char* where = replaced                 ? ".original_module.weight"
                        : adapter.tokens(weight) ? ".token_adapter.base_layer.weight"
                        : adapter.layer(*layer)  ? ".base_layer.weight"
                                                 : ".weight";
    tensors.push_back({layer->name + where, rows->second.whole()});
  }
  return tensors;
}

ModelOptions with_adapter_vocabulary(ModelOptions options, const std::filesystem::path& adapter_folder) {
  const AdapterFolder folder = open_adapter_folder(adapter_folder);
  for (const PartEntry& part : folder.parts) options = with_adapter_vocabulary(std::move(options), part.folder);
  if (!folder.parts.empty()) return options;
  const int64_t rows = highest(folder.config.value("trainable_token_indices", Json())) + 1;
  if (rows <= kMostRows) options.vocab_size = std::max(options.vocab_size, rows);
  const auto file = std::make_shared<io::TensorFile>(open_adapter_tensors(folder));
  const std::set<std::string> known = vocabulary_modules();
  std::set<std::string> modules;
  for (const io::TensorBytes& tensor : file->tensors()) {
    for (size_t dot = tensor.name.find('.'); dot != std::string::npos; dot = tensor.name.find('.', dot + 1)) {
      const std::string module = tensor.name.substr(0, dot);
      if (known.contains(last_part(module))) modules.insert(module);
    }
  }
  for (const std::string& module : modules) {
    const io::TensorBytes* base = nullptr;
    for (const std::string& copy : base_copies(module)) {
      if (!base) base = file->find(copy);
    }
    if (!base || base->shape.size() != 2) continue;
    options.vocab_size = std::max(options.vocab_size, base->shape[0]);
    std::string name = module;
    for (const char* prefix : {"base_model.model.", "base_model."}) {
      if (name.starts_with(prefix)) {
        name.erase(0, std::string(prefix).size());
        break;
      }
    }
    const Tensor rows_of_base = to_tensor(*base, scalar_type(base->dtype), file);
    refuse_non_finite(base->name, rows_of_base, file->path());
    options.embeddings.emplace(name + ".weight", rows_of_base);
  }
  file->check_length();
  return options;
}

void train_new_tokens(const Model& model, AdapterConfig& config, const std::vector<int64_t>& ids) {
  if (ids.empty()) return;
  const MethodSpec& spec = find_method(config.method);
  const Layer* words = word_embedding_of(model);
  if (spec.on(ActsOn::virtual_tokens) || !words) {
    throw Error({.id = "config.conflict",
                 .what = fmt::format("{} has no rows for new tokens", words ? spec.title : model.architecture()),
                 .where = "keys \"add_tokens\", \"add_special_tokens\"",
                 .fix = "choose a method that adapts layers, or add no tokens"});
  }
  const std::set<int64_t> trained = trained_slots(model, config, spec);
  const Layer* head = model.head_layer();
  const bool tied = head && !head->weight.tied_to.empty(), words_train = trained.contains(words->weight.slot);
  const bool head_trains = !head || trained.contains(head->weight.slot);
  if (tied && words_train && !head_trains && !spec.on(ActsOn::every_tensor)) {
    log().warn(
        "'{}' is tied to '{}' and does not train with it: the scores of the new tokens stay as they start; "
        "name both in modules_to_save, with ensure_weight_tying true, or in target_modules",
        head->name, words->name);
  }
  Json& indices = config.trainable_token_indices;
  if (!words_train && (tied || head_trains) && !indices.is_object()) {
    add_ids(indices, ids);
    return;
  }
  Json map = by_module(indices, last_part(words->name));
  if (!words_train) add_ids(map[last_part(words->name)], ids);
  const bool own_rows = tied && tokens_by_table(model, map, Purpose::reading).contains(head);
  if (!head_trains && (!tied || own_rows)) add_ids(map[last_part(head->name)], ids);
  if (!map.empty()) indices = std::move(map);
}

}  // namespace deltaw

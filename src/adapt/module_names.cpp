#include "adapt/module_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "adapt/names_in_memory.h"
#include "adapt/renamed_config.h"
#include "core/patterns.h"
#include "deltaw/error.h"
#include "deltaw/family.h"

namespace deltaw {
namespace {

constexpr const char* kPooler = "pooler";  // transformers' name in all base models that have one

std::string first_part(const std::string& name) {
  return name.substr(0, name.find('.'));
}

bool has_module(const Model& model, const std::string& name) {
  const auto& names = model.module_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// "bert." where the model has a head; empty where it is the bare base model, or of no family.
std::string prefix_of(const Model& model) {
  if (!model.family()) return {};
  const std::string& words = model.family()->word_embeddings;
  if (!words.empty()) {
    const std::string first = first_part(words);
    return first != words && has_module(model, first) ? first + "." : "";
  }
  std::set<std::string> firsts;  // of a model without words: the one module beside the head
  for (const std::string& name : model.module_names()) firsts.insert(first_part(name));
  const bool headed = firsts.erase(first_part(model.head())) > 0;
  return headed && firsts.size() == 1 ? *firsts.begin() + "." : "";
}

/// Whether a module of the set has this tensor.
bool holds(const std::set<std::string>& modules, const std::string& tensor) {
  for (size_t dot = tensor.find('.'); dot != std::string::npos; dot = tensor.find('.', dot + 1)) {
    if (modules.contains(tensor.substr(0, dot))) return true;
  }
  return false;
}

Error split_layer(const char* id, const std::string& name, const std::string& own, const std::string& where) {
  return Error({.id = id,
                .what = fmt::format("'{}' is a part of the layer '{}', which transformers 5 splits", name, own),
                .where = where,
                .fix =
                    "adapt the whole layer here; of a trained adapter, merge it by PEFT and give the merged model as "
                    "model_name_or_path"});
}

}  // namespace

ModuleNames::ModuleNames(const Model& model, std::string start)
    : ModuleNames(model, std::move(start), /*in_memory=*/true, /*bare=*/false) {}

ModuleNames::ModuleNames(const Model& model, std::string start, bool in_memory, bool bare)
    : model_(&model), start_(std::move(start)), prefix_(prefix_of(model)), in_memory_(in_memory), bare_(bare) {}

ModuleNames ModuleNames::of_file(const io::TensorFile& file, const std::string& start, const AdapterConfig& config,
                                 const Model& model) {
  std::vector<std::string> tensors;
  for (const io::TensorBytes& tensor : file.tensors()) {
    if (tensor.name.starts_with(start)) tensors.push_back(tensor.name.substr(start.size()));
  }
  const std::vector<std::string> modules = modules_with_tensors(model);
  ModuleNames best(model, start, /*in_memory=*/false, /*bare=*/false);
  std::pair<size_t, size_t> most = {0, 0};
  for (const bool bare : {false, true}) {
    for (const bool in_memory : {false, true}) {
      const ModuleNames names(model, start, in_memory, bare);
      std::set<std::string> written;
      for (const std::string& module : modules) written.insert(names.module_in_file(module));
      const auto held = static_cast<size_t>(
          std::count_if(tensors.begin(), tensors.end(), [&](const std::string& name) { return holds(written, name); }));
      if (held == 0 || held < most.first) continue;
      const std::pair<size_t, size_t> fits = {held, entries_that_fit(config, {written.begin(), written.end()})};
      if (fits <= most) continue;
      most = fits;
      best = names;
    }
  }
  for (const std::string& module : modules) {
    for (const std::string& part : split_in_memory(model, module)) {
      for (const std::string& name : tensors) {
        const bool below = name.starts_with(part + ".") || (best.prefix_ + name).starts_with(part + ".");
        if (below) throw split_layer("format.split-layer", part, module, file.path().string());
      }
    }
  }
  return best;
}

std::string ModuleNames::module_in_file(const std::string& name) const {
  const std::string written = in_memory_ ? name_in_memory(*model_, name) : name;
  return bare_ && written.starts_with(prefix_) ? written.substr(prefix_.size()) : written;
}

std::string ModuleNames::in_file(const std::string& name) const {
  return name.starts_with(start_) ? start_ + module_in_file(name.substr(start_.size())) : name;
}

bool ModuleNames::of_lacking_pooler(const std::string& name) const {
  const bool bare = bare_ || prefix_.empty();
  const bool lacks = !has_module(*model_, kPooler) && !has_module(*model_, prefix_ + kPooler);
  return lacks && bare && name.starts_with(start_ + kPooler + ".");
}

AdapterConfig ModuleNames::for_model(AdapterConfig config) const {
  const auto written = [this](const std::string& name) { return module_in_file(name); };
  config = renamed(*model_, std::move(config), written, same_name);
  if (bare_) config.task_type.clear();
  return config;
}

AdapterConfig ModuleNames::for_file(AdapterConfig config) const {
  const auto written = [this](const std::string& name) { return module_in_file(name); };
  return renamed(*model_, std::move(config), same_name, written);
}

AdapterConfig in_own_names(const Model& model, AdapterConfig config) {
  if (!has_names_in_memory(model)) return config;
  if (config.target_modules.is_array()) {
    for (const std::string& module : modules_with_tensors(model)) {
      for (const std::string& part : split_in_memory(model, module)) {
        for (const Json& entry : config.target_modules) {
          if (entry.is_string() && has_suffix(part, entry.get<std::string>()))
            throw split_layer("config.split-layer", entry.get<std::string>(), module, "key \"target_modules\"");
        }
      }
    }
  }
  const auto in_memory = [&model](const std::string& name) { return name_in_memory(model, name); };
  return renamed(model, std::move(config), in_memory, same_name, /*keeps_what_fits=*/true);
}

}  // namespace deltaw

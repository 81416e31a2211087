#include "adapt/bare_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapt/targets.h"
#include "deltaw/family.h"

namespace deltaw {
namespace {

std::string first_part(const std::string& name) {
  return name.substr(0, name.find('.'));
}

/// "bert." where the model has a head; empty where it is the bare base model, or of no family.
std::string prefix_of(const Model& model) {
  if (!model.family()) return {};
  const std::string& words = model.family()->word_embeddings;
  const std::string first = first_part(words);
  const auto& modules = model.module_names();
  const bool stands = first != words && std::find(modules.begin(), modules.end(), first) != modules.end();
  return stands ? first + "." : "";
}

}  // namespace

BareNames::BareNames(const io::TensorFile& file, const std::string& start, const Model& model)
    : start_(start), prefix_(prefix_of(model)) {
  if (prefix_.empty()) return;
  for (const std::string& name : model.module_names()) {
    if (name.starts_with(prefix_)) children_.insert(first_part(name.substr(prefix_.size())));
  }
  bool whole = false;
  for (const io::TensorBytes& tensor : file.tensors()) {
    if (!tensor.name.starts_with(start_)) continue;
    const std::string name = tensor.name.substr(start_.size());
    whole |= name.starts_with(prefix_);
    apply_ |= children_.contains(first_part(name));
  }
  apply_ &= !whole;
}

std::string BareNames::in_file(const std::string& name) const {
  const bool below = apply_ && name.starts_with(start_ + prefix_);
  return below ? start_ + name.substr(start_.size() + prefix_.size()) : name;
}

std::string BareNames::in_model(const std::string& name) const {
  const bool below = apply_ && name.starts_with(start_) && children_.contains(first_part(name.substr(start_.size())));
  return below ? start_ + prefix_ + name.substr(start_.size()) : name;
}

AdapterConfig BareNames::in_model(AdapterConfig config) const {
  if (!apply_) return config;
  for (Json* modules : {&config.target_modules, &config.exclude_modules}) {
    if (!modules->is_string() || is_all_linear(*modules)) continue;
    *modules = fmt::format("(?:{})?(?:{})", escaped(prefix_), modules->get<std::string>());
  }
  config.task_type.clear();
  return config;
}

}  // namespace deltaw

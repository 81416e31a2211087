#include "adapt/bare_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapt/targets.h"
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
  const std::string first = first_part(words);
  return first != words && has_module(model, first) ? first + "." : "";
}

}  // namespace

BareNames::BareNames(const io::TensorFile& file, const std::string& start, const Model& model)
    : start_(start), prefix_(prefix_of(model)) {
  lacks_pooler_ = !has_module(model, kPooler) && !has_module(model, prefix_ + kPooler);
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

bool BareNames::of_lacking_pooler(const std::string& name) const {
  const bool bare = apply_ || prefix_.empty();
  return lacks_pooler_ && bare && name.starts_with(start_ + kPooler + ".");
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

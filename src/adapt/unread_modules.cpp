#include "adapt/unread_modules.h"

#include <algorithm>

#include "core/patterns.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/checkpoint.h"
#include "models/gguf.h"
#include "models/loader.h"

namespace deltaw {
namespace {

std::shared_ptr<const io::Checkpoint> base_of(const Model& model) {
  if (!model.family()) return nullptr;
  try {
    return open_checkpoint(model.folder());
  } catch (const Error&) {  // moved since it was loaded, or a configuration alone
    return nullptr;
  }
}

std::string module_of(const std::string& tensor) {
  const size_t dot = tensor.rfind('.');
  return dot == std::string::npos ? "" : tensor.substr(0, dot);
}

std::string last_of(const io::TensorBytes& tensor) {
  return tensor.name.substr(tensor.name.rfind('.') + 1);
}

// A tensor of no layer: those of layers stand in files under several names.
bool stands_alone(const io::TensorBytes& tensor) {
  constexpr std::string_view kOfLayers[] = {"weight", "bias", "gamma", "beta"};
  return std::find(std::begin(kOfLayers), std::end(kOfLayers), last_of(tensor)) == std::end(kOfLayers);
}

// What transformers computes anew: frequencies of rotary positions, numbers of positions, masks of GPT-2.
bool is_buffer(const io::TensorBytes& tensor) {
  if (!at::isFloatingType(scalar_type(tensor.dtype))) return true;
  const std::string last = last_of(tensor);
  return tensor.shape.size() < 2 && !last.ends_with("weight") && !last.ends_with("bias");
}

// A checkpoint may lack the prefix that the model's names have, or have one more.
bool are_one(const std::string& own, const std::string& stored) {
  return has_suffix(own, stored) || has_suffix(stored, own);
}

bool is_below(const std::string& name, const std::string& module) {
  return !module.empty() && (name == module || name.starts_with(module + "."));
}

std::set<std::string> unread_in(const io::Checkpoint& base, const Model& model) {
  std::set<std::string> unread;
  const auto& heads = model.family()->heads;
  const auto& own = model.module_names();
  for (const std::string& tensor : base.names()) {
    const std::string module = module_of(tensor);
    if (module.empty()) continue;
    const bool is_read =
        std::any_of(own.begin(), own.end(), [&](const std::string& name) { return are_one(name, module); });
    const bool is_heads =
        std::any_of(heads.begin(), heads.end(), [&](const HeadSpec& head) { return is_below(module, head.module); });
    if (!is_read && !is_heads) unread.insert(module);
  }
  return unread;
}

}  // namespace

std::set<std::string> unread_modules(const Model& model) {
  const auto base = base_of(model);
  return base ? unread_in(*base, model) : std::set<std::string>();
}

std::vector<NamedTensor> unread_tensors(const Model& model) {
  std::vector<NamedTensor> found;
  const auto base = std::filesystem::is_directory(model.folder()) ? base_of(model) : nullptr;  // no GGUF file
  const Json classes = base ? base->config().value("architectures", Json()) : Json();
  if (!classes.is_array() || classes.size() != 1 || classes[0] != model.architecture()) return found;
  const std::set<std::string> modules = unread_in(*base, model);
  const auto& own = model.parameters();
  for (const std::string& name : base->names()) {
    const io::TensorBytes& tensor = *base->find(name);
    if (is_buffer(tensor) || !(modules.contains(module_of(name)) || stands_alone(tensor))) continue;
    if (std::any_of(own.begin(), own.end(), [&](const Parameter* p) { return are_one(p->name, name); })) continue;
    found.push_back({name, to_tensor(tensor, scalar_type(tensor.dtype), base)});
  }
  return found;
}

}  // namespace deltaw

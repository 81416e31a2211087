#include "adapt/unread_modules.h"

#include <algorithm>

#include "core/patterns.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/checkpoint.h"
#include "models/gguf.h"

namespace deltaw {
namespace {

std::vector<std::string> tensors_of_base(const Model& model) {
  try {
    return open_checkpoint(model.folder())->names();
  } catch (const Error&) {  // moved since it was loaded, or a configuration alone
    return {};
  }
}

bool is_below(const std::string& name, const std::string& module) {
  return !module.empty() && (name == module || name.starts_with(module + "."));
}

}  // namespace

std::set<std::string> unread_modules(const Model& model) {
  std::set<std::string> unread;
  if (!model.family()) return unread;
  const auto& heads = model.family()->heads;
  const auto& own = model.module_names();
  for (const std::string& tensor : tensors_of_base(model)) {
    const size_t dot = tensor.rfind('.');
    if (dot == std::string::npos) continue;
    const std::string module = tensor.substr(0, dot);
    // A checkpoint may lack the prefix that the model's names have.
    const bool is_read =
        std::any_of(own.begin(), own.end(), [&](const std::string& name) { return has_suffix(name, module); });
    const bool is_heads =
        std::any_of(heads.begin(), heads.end(), [&](const HeadSpec& head) { return is_below(module, head.module); });
    if (!is_read && !is_heads) unread.insert(module);
  }
  return unread;
}

}  // namespace deltaw

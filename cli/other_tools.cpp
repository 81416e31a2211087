#include "other_tools.h"

#include <optional>

#include "core/files.h"
#include "core/foreign/configuration.h"
#include "core/json_fields.h"
#include "deltaw/error.h"
#include "io/resolve_model.h"
#include "method_infos.h"
#include "models/gguf.h"

namespace deltaw::cli {
namespace {

/// The blocks that a checkpoint's config.json counts.
std::optional<int64_t> blocks_of(const std::string& model) {
  try {
    const Json config = read_model_config(io::resolve_model(model));
    for (const char* key : {"num_hidden_layers", "n_layer"}) {
      if (config.is_object() && config.contains(key)) return json_as<int64_t>(config[key]);
    }
  } catch (const Error&) {  // which loading the model tells
  }
  return std::nullopt;
}

}  // namespace

OtherTool translate_other_tool(const Json& values, const std::set<std::string>& allowed,
                               const std::map<std::string, Json>& given, const std::string& path, Problems& problems) {
  foreign::Here here{.keys = allowed, .given = given};
  for (const MethodInfo& method : method_infos()) {
    if (method.trains_all) here.whole_model = method.id;
    for (const auto& [setting, value] : method.settings.items()) here.keys.insert(setting);
    for (const FieldInfo& option : method.options) {
      for (const std::string& name : {method.id, method.peft_type}) here.methods[name].insert(option.name);
    }
  }
  const auto found_model = given.find("model_name_or_path");
  const Json model = found_model == given.end() ? Json() : found_model->second;
  here.blocks = [model](const std::string& named) {
    return blocks_of(model.is_string() ? model.get<std::string>() : named);
  };
  const std::optional<foreign::Translation> found = foreign::translate(values, here, path);
  if (!found) return {.values = values, .report = {}, .meant = {}};
  for (const Error& problem : found->problems) problems.add(problem);
  return {.values = found->values, .report = found->report(path), .meant = found->meant};
}

}  // namespace deltaw::cli

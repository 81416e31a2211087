#include "run/inherited.h"

#include <vector>

#include "adapt/adapter_folder.h"
#include "adapt/peft_format.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "deltaw/task.h"
#include "io/checkpoint.h"
#include "io/resolve_model.h"
#include "models/gguf.h"
#include "run/run_folder.h"
#include "run/task_keys.h"

namespace deltaw::run {
namespace {

namespace fs = std::filesystem;

// Without the path of the chat template: the folder has a copy, and what else the path leads to would be copied on.
Json values_of(const fs::path& adapter, const Json& config) {
  const Json run = settings_beside(adapter);
  Json values = Json::object();
  std::vector<std::string> kept = {
      "model_name_or_path", "task_name",   "dataset_dir",      "train_file",   "validation_file",
      "validation_split",   "text_column", "text_pair_column", "label_column", "label_names",
      "problem_type",       "encoding",    "max_length",       "seed"};
  for (std::string& key : kept_task_keys()) kept.push_back(std::move(key));
  for (const std::string& key : kept) {
    if (run.contains(key)) values[key] = run[key];
  }
  // PEFT's may be for a task that is none here, which loading says.
  Json named = config.value("task_type", Json());
  if (named.is_null()) named = task_of_class(config);
  for (const TaskSpec* task : task_table()) {
    if (named == task->id) values["task_type"] = task->id;
  }
  const auto base = config.find("base_model_name_or_path");
  if (!values.contains("model_name_or_path") && base != config.end() && base->is_string()) {
    values["model_name_or_path"] = *base;
  }
  return values;
}

// Null where the base is not there or of none, which loading it says.
const FamilySpec* family_of_base(const std::string& model_name_or_path) {
  try {
    const Json config = read_model_config(io::resolve_model(model_name_or_path));
    const Json type = config.value(io::model_type_key(config), Json());
    return type.is_string() ? find_family(type.get<std::string>()) : nullptr;
  } catch (const Error&) {
    return nullptr;
  }
}

constexpr const char* kQuantisationKeys[] = {"load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type",
                                             "bnb_4bit_use_double_quant", "base_compute_dtype"};

std::string held(const ModelOptions& options) {
  if (options.base_compute_dtype == "int8") return "in int8, multiplied in int8";
  if (options.load_in_8bit) return "in int8";
  if (!options.load_in_4bit) return "as it is stored";
  return "in " + options.bnb_4bit_quant_type + (options.bnb_4bit_use_double_quant ? " with double quantisation" : "");
}

}  // namespace

GivenKeys inherited(const fs::path& adapter) {
  GivenKeys below;
  if (adapter.empty()) return below;
  below.file = values_of(adapter, open_adapter_folder(adapter).config);
  below.file_name = (adapter / "run.json").string();
  return below;
}

void forget_task_of_texts(ModelOptions& options, const std::string& model_name_or_path, const GivenKeys& given) {
  if (options.task_type.empty() || model_name_or_path.empty() || given.has("task_type")) return;
  const FamilySpec* family = family_of_base(model_name_or_path);
  if (family && !peft_names_heads(*family) && !family->head(head_type(options.task_type))) options.task_type.clear();
}

std::optional<Remark> inherit_quantisation(ModelOptions& options, const fs::path& adapter, const GivenKeys& given) {
  const Json run = adapter.empty() ? Json::object() : settings_beside(adapter);
  Json values = Json::object();
  for (const char* key : kQuantisationKeys) {
    if (run.contains(key)) values[key] = run[key];
  }
  if (values.empty()) return std::nullopt;  // trained by others, who say nothing of it
  ModelOptions trained;
  read_fields(fields_of(trained), values, (adapter / "run.json").string());
  const bool asked = given.has("load_in_4bit") || given.has("load_in_8bit") || options.base_compute_dtype == "int8";
  if (!asked) {
    for (const char* key : kQuantisationKeys) {
      if (given.has(key)) values.erase(key);
    }
    read_fields(fields_of(options), values, (adapter / "run.json").string());
  }
  const std::string then = held(trained), now = held(options);
  if (then != now) {
    return Remark{.warns = true, .sentence = "the adapter was trained on a base " + then + ", and runs on one " + now};
  }
  if (asked || now == held(ModelOptions())) return std::nullopt;
  return Remark{.sentence = "the base is held " + now +
                            ", as when the adapter was trained; --load_in_4bit false: as it is stored"};
}

}  // namespace deltaw::run

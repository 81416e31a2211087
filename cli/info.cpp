#include "info.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "adapt/adapter_folder.h"
#include "adapt/lora_file.h"
#include "adapt/names_in_memory.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/resolve_model.h"
#include "io/safetensors.h"
#include "method_infos.h"
#include "models/gguf.h"
#include "options.h"
#include "output.h"

namespace deltaw::cli {
namespace {

namespace fs = std::filesystem;

struct Keys {
  bool modules = false;
  bool json = false;

  void fields(FieldVisitor& f) {
    f.field("modules", modules, "List the modules, by the names that target_modules is matched against.");
    f.field("json", json, "One JSON object.");
  }
};

const Usage kUsageText = {
    .verb = "info",
    .what = "Shows what is in a checkpoint, an adapter, a run folder or a tensor file. Reads no weights.",
    .example = "  deltaw info MODEL --modules\n  deltaw info out",
    .positional = "PATH",
    .positional_help = "A folder, a .safetensors or .gguf file, or a hub name in the local cache.",
};

/// Counts of a list of tensors, by type.
struct Tally {
  int64_t tensors = 0, parameters = 0;
  uint64_t bytes = 0;
  std::map<std::string, int64_t> by_dtype;

  void add(const io::TensorBytes& tensor) {
    ++tensors;
    parameters += tensor.count();
    bytes += tensor.size();
    by_dtype[io::dtype_name(tensor.dtype)] += tensor.count();
  }

  void write(Json& info) const {
    info["tensors"] = tensors;
    info["parameters"] = parameters;
    info["bytes"] = bytes;
    for (const auto& [dtype, count] : by_dtype) info["parameters_by_dtype"][dtype] = count;
  }
};

std::string module_of(const std::string& tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

Json module_list(const std::vector<const io::TensorBytes*>& tensors) {
  Json modules = Json::array();
  for (const io::TensorBytes* tensor : tensors) {
    if (tensor->name.ends_with(".weight") || tensor->name.ends_with("_weight")) {
      modules.push_back({{"name", module_of(tensor->name)}, {"shape", tensor->shape}});
    }
  }
  return modules;
}

void copy_keys(const Json& from, Json& to, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (from.contains(key) && !from[key].is_null()) to[key] = from[key];
  }
}

Json tokenizer_files(const fs::path& folder) {
  Json files = Json::array();
  if (!fs::is_directory(folder)) return {folder.filename().string()};  // a GGUF file has it inside
  for (const char* name : {"tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json",
                           "special_tokens_map.json", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model"}) {
    if (fs::exists(folder / name)) files.push_back(name);
  }
  return files;
}

Json describe_checkpoint(const fs::path& path, bool modules) {
  const auto opened = open_checkpoint(path);
  const io::Checkpoint& checkpoint = *opened;
  const Json& config = checkpoint.config();
  Json info = {{"kind", "checkpoint"}, {"path", path.string()}};
  copy_keys(config, info,
            {"model_type", "architectures", "num_hidden_layers", "hidden_size", "intermediate_size",
             "num_attention_heads", "vocab_size", "max_position_embeddings", "problem_type"});
  if (io::is_diffusers(config)) {
    copy_keys(config, info,
              {"_class_name", "sample_size", "in_channels", "out_channels", "block_out_channels", "layers_per_block",
               "down_block_types", "num_class_embeds", "cross_attention_dim"});
  }
  if (config.contains("id2label") && config["id2label"].is_object()) {
    info["labels"] = Json::array();
    for (const auto& [id, label] : config["id2label"].items()) info["labels"].push_back(label);
  }
  Tally tally;
  std::vector<const io::TensorBytes*> tensors;
  for (const std::string& name : checkpoint.names()) {
    tensors.push_back(checkpoint.find(name));
    tally.add(*tensors.back());
  }
  tally.write(info);
  info["files"] = checkpoint.files().size();
  info["tokenizer"] = tokenizer_files(path);
  if (modules) info["modules"] = module_list(tensors);
  return info;
}

/// "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight" -> "...self.query"; `own` is "lora_".
std::string adapted_module(std::string tensor, const std::string& own) {
  const std::string prefix = "base_model.model.";
  if (tensor.starts_with(prefix)) tensor.erase(0, prefix.size());
  std::string module = module_of(tensor);
  if (!tensor.ends_with(".weight") && !tensor.ends_with(".bias")) return module;
  const std::string last = module.substr(module.rfind('.') + 1);
  return !own.empty() && last.starts_with(own) ? module_of(module) : module;
}

/// What the names of a method's tensors begin with.
std::string tensor_prefix(const std::string& method) {
  const std::vector<MethodInfo> infos = method_infos();
  return std::find_if(infos.begin(), infos.end(), [&](const MethodInfo& info) { return info.id == method; })
      ->tensor_prefix;
}

/// The keys of an adapter that say how large its update is: ranks, and what scales it.
void copy_sizes(const Json& config, Json& info) {
  copy_keys(config, info, {"r", "init_r", "target_r"});
  for (const auto& [key, value] : config.items()) {
    if (key.ends_with("_alpha") && !value.is_null()) info[key] = value;
  }
}

/// Adds what a LoRA file of an image model says: whose names it has, how many layers of which part, and of kohya's
/// metadata what tells the base.
void describe_lora_file(const fs::path& path, bool modules, Json& info) {
  const LoraFile file(path);
  info["names"] = file.is_kohya() ? "kohya" : "diffusers";
  Json names = Json::array();
  for (const auto& [part, count] : file.parts()) {
    info["layers"][part] = count;
    for (const std::string& module : file.modules_of(part)) names.push_back(part + " " + module);
  }
  for (const char* key : {"ss_base_model_version", "ss_sd_model_name", "ss_network_module"}) {
    if (const auto value = file.metadata().find(key); value != file.metadata().end())
      info["metadata"][key] = value->second;
  }
  if (modules) info["modules"] = names;
}

Json describe_adapter(const fs::path& folder, bool modules) {
  const AdapterFolder opened = open_adapter_folder(folder);
  const Json& config = opened.config;
  Json info = {{"kind", "adapter"}, {"path", folder.string()}};
  if (!opened.parts.empty()) {  // several that act together
    copy_keys(config, info, {"method", "base_model_name_or_path"});
    info["parts"] = Json::array();
    for (const PartEntry& part : opened.parts) info["parts"].push_back(describe_adapter(part.folder, modules));
    return info;
  }
  const std::string method = chosen_method(config, opened.config_file().string());
  const std::string own = tensor_prefix(method);
  info["method"] = method;
  copy_keys(config, info, {"peft_type", "task_type", "base_model_name_or_path"});
  copy_sizes(config, info);
  const io::TensorFile file = open_adapter_tensors(opened);
  Tally tally;
  if (!opened.lora_file.empty()) {
    for (const io::TensorBytes& tensor : file.tensors()) tally.add(tensor);
    tally.write(info);
    describe_lora_file(opened.lora_file, modules, info);
    return info;
  }
  copy_keys(config, info, {"target_modules", "modules_to_save", "bias", "rank_pattern", "alpha_pattern"});
  std::set<std::string> seen;
  Json names = Json::array();
  std::vector<std::string> tensor_names;
  for (const io::TensorBytes& tensor : file.tensors()) {
    tally.add(tensor);
    tensor_names.push_back(tensor.name);
    if (std::string name = adapted_module(tensor.name, own); seen.insert(name).second) names.push_back(std::move(name));
  }
  tally.write(info);
  info["module_count"] = names.size();
  if (const std::string kind = names_of_adapter(tensor_names, config); !kind.empty()) info["module_names"] = kind;
  if (modules) info["modules"] = names;
  return info;
}

Json list_checkpoints(const fs::path& folder) {
  std::vector<std::pair<int64_t, std::string>> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const std::string number = name.starts_with("checkpoint-") ? name.substr(11) : "";
    if (!number.empty() && number.size() < 18 && number.find_first_not_of("0123456789") == std::string::npos) {
      found.emplace_back(std::stoll(number), name);
    }
  }
  std::sort(found.begin(), found.end());
  Json names = Json::array();
  for (const auto& [step, name] : found) names.push_back(name);
  return names;
}

bool is_run(const fs::path& folder) {
  return fs::exists(folder / "run.json") || fs::exists(folder / "trainer_state.json") ||
         fs::exists(folder / "all_results.json") || !list_checkpoints(folder).empty();
}

Json describe_run(const fs::path& folder, bool modules) {
  Json info = {{"kind", "run"}, {"path", folder.string()}};
  const bool finished = fs::exists(folder / "all_results.json");
  info["state"] = finished ? "finished" : "not finished";
  info["checkpoints"] = list_checkpoints(folder);
  fs::path state_file = folder / "trainer_state.json";
  if (!fs::exists(state_file) && !info["checkpoints"].empty()) {
    state_file = folder / info["checkpoints"].back().get<std::string>() / "trainer_state.json";
  }
  if (fs::exists(state_file)) {
    const Json state = read_json(state_file);
    copy_keys(state, info, {"global_step", "max_steps", "epoch", "best_metric", "best_model_checkpoint"});
    if (state.contains("log_history") && state["log_history"].is_array()) {
      for (const Json& entry : state["log_history"]) {
        if (entry.is_object()) copy_keys(entry, info, {"loss"});
      }
    }
  }
  if (fs::exists(folder / "run.json")) {
    copy_keys(read_json(folder / "run.json"), info,
              {"model_name_or_path", "task_name", "train_file", "method", "learning_rate", "seed"});
  }
  if (finished) info["results"] = read_json(folder / "all_results.json");
  if (fs::exists(folder / "adapter_config.json")) info["adapter"] = describe_adapter(folder, modules);
  return info;
}

/// Values of a GGUF file that fit a line: vocabularies and templates do not.
Json short_values(const Json& values) {
  constexpr size_t kLongest = 80;
  Json some = Json::object();
  for (const auto& [key, value] : values.items()) {
    if (value.is_structured() || (value.is_string() && value.get_ref<const std::string&>().size() > kLongest)) continue;
    some[key] = value;
  }
  return some;
}

/// Whether a GGUF file is of a model that a family knows, and no adapter.
bool is_model(const fs::path& file) {
  if (!io::is_gguf(file)) return false;
  try {
    read_model_config(file);
    return true;
  } catch (const Error& error) {
    if (error.id() != "config.unsupported") throw;
    return false;
  }
}

Json describe_file(const fs::path& path, bool modules) {
  const io::TensorFile file = io::open_tensors(path);
  Json info = {{"kind", "tensors"}, {"path", path.string()}};
  Tally tally;
  std::vector<const io::TensorBytes*> tensors;
  for (const io::TensorBytes& tensor : file.tensors()) {
    tally.add(tensor);
    tensors.push_back(&tensor);
  }
  tally.write(info);
  for (const auto& [key, value] : file.metadata()) info["metadata"][key] = value;
  if (io::is_gguf(path)) info["metadata"] = short_values(io::GgufFile(path).values());
  if (modules) info["modules"] = module_list(tensors);
  return info;
}

}  // namespace

Json describe(const std::string& name_or_path, bool modules) {
  if (fs::is_regular_file(name_or_path)) {
    if (!find_lora_file(name_or_path).empty()) return describe_adapter(name_or_path, modules);
    return is_model(name_or_path) ? describe_checkpoint(name_or_path, modules) : describe_file(name_or_path, modules);
  }
  if (fs::is_directory(name_or_path)) {
    const fs::path folder = name_or_path;
    if (is_run(folder)) return describe_run(folder, modules);
    if (fs::exists(folder / "adapter_config.json")) return describe_adapter(folder, modules);
    if (!fs::exists(folder / "config.json") && !io::is_pipeline(folder)) {
      if (!find_lora_file(folder).empty()) return describe_adapter(folder, modules);
      throw Error({.id = "config.nothing-known",
                   .what = "the folder holds no config.json, adapter_config.json, model_index.json or run of deltaw",
                   .where = name_or_path,
                   .fix = "name the folder of a checkpoint, an adapter or a run"});
    }
  }
  return describe_checkpoint(io::resolve_model(name_or_path), modules);
}

int info(const Args& args) {
  const std::vector<Section> sections = {section_of<Keys>("Keys"), section_of<LogKeys>("Log")};
  const Invocation invocation = parse_args(kUsageText, sections, args);
  if (invocation.help) {
    print_help(kUsageText, sections);
    return kDone;
  }
  Keys keys;
  read_into(keys, invocation);
  if (invocation.positional.empty()) {
    throw Error({.id = "usage.missing-path",
                 .what = "`deltaw info` needs a path",
                 .where = "command line",
                 .fix = "name a folder: deltaw info MODEL"});
  }
  const Json description = describe(invocation.positional, keys.modules);
  if (keys.json) {
    print(to_text(description));
  } else {
    show(info_text(description));
  }
  return kDone;
}

}  // namespace deltaw::cli

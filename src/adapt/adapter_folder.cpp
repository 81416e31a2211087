#include "adapt/adapter_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "adapt/lora_adapter.h"
#include "adapt/mlx.h"
#include "adapt/peft_format.h"
#include "core/file_system_error.h"
#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/method.h"
#include "text/tokenizer/tokenizer_files.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kName = "name the folder that a training run wrote, or one of its checkpoints";

[[noreturn]] void refuse(const fs::path& where, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.no-adapter", .what = what, .where = where.string(), .fix = fix});
}

[[noreturn]] void refuse_config(const fs::path& file, const std::string& what, const std::string& fix) {
  throw Error({.id = "format.bad-adapter", .what = what, .where = file.string(), .fix = fix});
}

bool holds(const fs::path& folder, const char* name) {
  std::error_code unseen;
  return fs::exists(folder / name, unseen);
}

bool holds_tensors(const fs::path& folder) {
  return holds(folder, "adapter_model.safetensors") || holds(folder, "adapter_model.bin");
}

/// The checkpoint-<n> of the highest n, or an empty path.
fs::path newest_checkpoint(const fs::path& folder) {
  fs::path newest;
  int64_t most = -1;
  std::error_code unseen;
  for (const auto& entry : fs::directory_iterator(folder, unseen)) {
    const auto step = checkpoint_step(entry.path().filename().string());
    if (!step || !holds(entry.path(), kConfig) || *step <= most) continue;
    most = *step;
    newest = entry.path();
  }
  return newest;
}

[[noreturn]] void refuse_npz(const fs::path& folder) {
  refuse(folder, "this is an adapter of an early MLX (adapters.npz), which is not read",
         "load and save it once with a newer mlx_lm, which writes adapters.safetensors");
}

[[noreturn]] void refuse_without_config(const fs::path& folder) {
  std::error_code unseen;
  refuse_unseen(folder);
  if (!fs::exists(folder, unseen)) {
    refuse(folder, "there is no such folder", "correct the path; an adapter of the hub: deltaw download NAME");
  }
  if (!fs::is_directory(folder, unseen)) {
    const fs::path parent = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
    refuse(folder, "this is a file, and an adapter is a folder",
           holds(parent, kConfig) ? "name its folder: " + parent.string()
                                  : "name a folder that holds adapter_config.json and adapter_model.safetensors");
  }
  if (holds(folder, "adapters.npz")) refuse_npz(folder);
  const std::string what = "the folder holds no adapter_config.json";
  if (const fs::path newest = newest_checkpoint(folder); !newest.empty()) {
    refuse(folder, what + ", only checkpoints of a run that did not end", "name the newest: " + newest.string());
  }
  if (holds_tensors(folder) || is_mlx(folder)) refuse(folder, what + " beside its tensors", "fetch that file too");
  if (holds(folder, "config.json")) {
    refuse(folder, what + ": it is a whole model", "give it as model_name_or_path, without an adapter");
  }
  refuse(folder, what, kName);
}

/// A name that stays in the folder it is looked for in.
bool is_plain(const std::string& name) {
  const bool odd = std::any_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < ' ' || c == '\x7f';
  });
  return !odd && !name.empty() && name != "." && name != "..";
}

/// The folder of that name inside `folder`: no link to elsewhere, and of one adapter.
fs::path part_folder(const fs::path& folder, const std::string& name) {
  const fs::path config = folder / kConfig, part = folder / name;
  constexpr const char* kFix = "save the adapter again; each part is a folder of its own inside this one";
  std::error_code unseen;
  if (!is_plain(name) || !fs::is_directory(part, unseen) ||
      fs::canonical(part, unseen).parent_path() != fs::canonical(folder, unseen)) {
    refuse_config(config, fmt::format("the part {} is no folder inside this one", Json(name).dump(-1, ' ', true)),
                  kFix);
  }
  return part;
}

std::vector<PartEntry> parts_of(const fs::path& folder, const Json& config) {
  const fs::path file = folder / kConfig;
  const Json parts = config.value("parts", Json());
  const auto malformed = [&] {
    refuse_config(file, "\"parts\" is no list of {folder, weight, frozen}", "save the adapter again");
  };
  if (!parts.is_array() || parts.empty()) malformed();
  std::vector<PartEntry> entries;
  for (const Json& part : parts) {
    const Json values = part.is_object() ? part : Json::object();
    const Json name = values.value("folder", Json()), weight = values.value("weight", Json());
    const Json frozen = values.value("frozen", Json());
    if (!name.is_string() || !weight.is_number() || !frozen.is_boolean()) malformed();
    if (!std::isfinite(weight.get<double>())) malformed();
    entries.push_back({part_folder(folder, name.get<std::string>()), weight.get<double>(), frozen.get<bool>()});
  }
  return entries;
}

/// Whether a link leads out of the folder it is in; those of the Hugging Face cache lead to its blobs.
bool leads_out(const fs::path& link, const fs::path& folder) {
  std::error_code unseen;
  const fs::path target = fs::canonical(link, unseen), own = fs::canonical(folder, unseen);
  if (target.empty() || *target.lexically_relative(own).begin() != "..") return false;
  for (fs::path around = own; around.has_relative_path(); around = around.parent_path()) {
    if (around.filename() == "snapshots" && target.parent_path() == around.parent_path() / "blobs") return false;
  }
  return true;
}

/// Tokenizer and chat template are copied on, into merged folders for one.
void refuse_links(const fs::path& folder) {
  std::error_code failed;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed)) {
    const fs::path& path = entry->path();
    if (!entry->is_symlink(failed) || !text::is_tokenizer_name(path.filename().string())) continue;
    if (leads_out(path, folder)) {
      refuse_config(path, "this is a link to a file outside the adapter's folder", "put the file itself there");
    }
  }
}

AdapterFolder open_one(const fs::path& folder) {
  if (const fs::path file = find_lora_file(folder); !file.empty()) {
    return {.path = folder, .config = LoraFile(file).outline(), .parts = {}, .lora_file = file};
  }
  if (!holds(folder, kConfig)) refuse_without_config(folder);
  refuse_links(folder);
  AdapterFolder opened{.path = folder, .config = read_json(folder / kConfig), .parts = {}};
  if (!opened.config.is_object()) {
    refuse_config(opened.config_file(), std::string("it holds no keys but a ") + opened.config.type_name(),
                  "fetch the file again, or save the adapter again");
  }
  if (is_mlx(folder)) opened.config = mlx_config(folder);
  opened.config = with_task(without_training(std::move(opened.config)));
  return opened;
}

bool is_composite(const Json& config) {
  return !config.value("parts", Json()).is_null() || config.value("peft_type", Json()) == "COMPOSITE";
}

void check_tensors(const AdapterFolder& folder) {
  if (!folder.lora_file.empty()) return;
  if (holds_tensors(folder.path) || is_mlx(folder.path)) return;
  if (holds(folder.path, "adapters.npz")) refuse_npz(folder.path);
  refuse(folder.path, "the folder holds no adapter_model.safetensors",
         "fetch that file too, or save the adapter again");
}

}  // namespace

std::optional<int64_t> checkpoint_step(const std::string& name) {
  const std::string prefix = "checkpoint-", number = name.starts_with(prefix) ? name.substr(prefix.size()) : "";
  const bool digits = std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || number.empty() || number.size() >= 18) return std::nullopt;
  return std::stoll(number);
}

AdapterFolder open_adapter_folder(const fs::path& folder) {
  AdapterFolder opened = open_one(folder);
  if (!is_composite(opened.config)) {
    check_tensors(opened);
    return opened;
  }
  opened.parts = parts_of(folder, opened.config);
  for (const PartEntry& part : opened.parts) {
    const AdapterFolder own = open_one(part.folder);
    if (!is_composite(own.config)) continue;
    refuse_config(own.config_file(), "this part of an adapter consists of parts itself",
                  "save the adapter again; its parts are single adapters");
  }
  return opened;
}

bool is_adapter_name(const std::string& name) {
  if (name == kConfig || name == "adapter_model.safetensors") return true;
  const size_t digits = name.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string::npos || name[digits] != '-') return false;
  const std::string id = name.substr(digits + 1);
  const std::vector<const MethodSpec*> methods = method_table();
  return std::any_of(methods.begin(), methods.end(), [&](const MethodSpec* spec) { return spec->id == id; });
}

bool is_read_as_model(const std::string& name) {
  const auto begins = [&](const char* beginning) { return name.starts_with(beginning); };
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  const bool weights = begins("model") || begins("pytorch_model") || begins("adapter_model");
  return is_adapter_name(name) || name == "config.json" || name == "generation_config.json" ||
         name == "adapters.safetensors" || name == kDiffusersLora || name == kKohyaLora || ends(".gguf") ||
         (weights && (ends(".safetensors") || ends(".bin") || ends(".index.json")));
}

io::TensorFile open_adapter_tensors(const AdapterFolder& folder) {
  check_tensors(folder);
  if (!folder.lora_file.empty()) return io::open_tensors(folder.lora_file);
  return is_mlx(folder.path) ? mlx_tensors(folder.path) : io::open_adapter(folder.path);
}

AdapterContents open_adapter_contents(const AdapterFolder& folder, const Model& model) {
  const bool is_pair = folder.lora_file.empty() && has_peft_text_encoder(folder.path);
  if (folder.lora_file.empty() && !is_pair) return {.config = folder.config, .tensors = open_adapter_tensors(folder)};
  AdapterContents contents = is_pair ? read_peft_parts(folder.path, model) : read_lora_file(folder.lora_file, model);
  contents.config = without_training(std::move(contents.config));
  return contents;
}

}  // namespace deltaw

#include "io/checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/files.h"
#include "core/json_fields.h"
#include "core/suggest.h"
#include "deltaw/error.h"
#include "io/weights_names.h"

namespace deltaw::io {
namespace {

namespace fs = std::filesystem;

/// "config.json, vocab.txt and 3 more", for messages.
std::string contents(const fs::path& folder) {
  constexpr size_t kShown = 8;
  std::vector<std::string> names;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(folder, code)) names.push_back(entry.path().filename().string());
  if (names.empty()) return "nothing";
  std::sort(names.begin(), names.end());
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

[[noreturn]] void fail_not_found(const std::string& what, const fs::path& where, const std::string& fix) {
  throw Error({.id = "io.not-found", .what = what, .where = where.string(), .fix = fix});
}

[[noreturn]] void fail_index(const std::string& what, const fs::path& where) {
  throw Error({.id = "format.index",
               .what = what,
               .where = where.string(),
               .fix = "index and shards are not of one download; fetch the whole folder again"});
}

Json read_config(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    fail_not_found(fs::exists(folder) ? "this is a file, not the folder of a checkpoint" : "there is no such folder",
                   folder, "give the folder that holds config.json and model.safetensors");
  }
  const fs::path path = folder / "config.json";
  if (!fs::exists(path)) {
    if (fs::exists(folder / "adapter_config.json")) {
      fail_not_found("the folder holds an adapter, not a model", folder,
                     "give this folder as adapter_name_or_path, and its base model as model_name_or_path");
    }
    fail_not_found("the folder has no config.json; it holds " + contents(folder), folder,
                   "give the folder of a Hugging Face checkpoint");
  }
  return read_json_object(path, "format.config");
}

constexpr const char* kIndex = ".index";

std::vector<WeightsName> make_weights_names() {
  constexpr std::pair<const char*, const char*> kFiles[] = {{"model", ".safetensors"},
                                                            {"diffusion_pytorch_model", ".safetensors"},
                                                            {"pytorch_model", ".bin"},
                                                            {"diffusion_pytorch_model", ".bin"}};
  std::vector<WeightsName> names;
  for (const std::string variant : {"", ".fp16"}) {
    for (const auto& [name, ending] : kFiles) {
      names.push_back({.file = name + variant + ending,
                       .index = std::string(name) + ending + kIndex + variant + ".json",
                       .shards = name + variant + "-*-of-*" + ending});
    }
  }
  return names;
}

[[noreturn]] void fail_without_weights(const fs::path& folder, const Json& config) {
  const std::string names = is_diffusers(config) ? "diffusion_pytorch_model.safetensors, diffusion_pytorch_model.bin"
                                                 : "model.safetensors, pytorch_model.bin";
  fail_not_found("there is no " + names + " or index of shards; the folder holds " + contents(folder), folder,
                 "download the weights too: deltaw download NAME");
}

/// Tensor name -> shard, from the index.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const Json index = read_json(path);
  const auto found = index.find("weight_map");
  if (!index.is_object() || found == index.end() || !found->is_object()) {
    fail_index("there is no object 'weight_map'", path);
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : found->items()) {
    if (!shard.is_string()) fail_index("the shard of '" + name + "' is no file name", path);
    const auto file = shard.get<std::string>();
    // A shard lies beside its index, nowhere else.
    if (file.empty() || file == ".." || fs::path(file).filename() != file) {
      fail_index("the shard '" + file + "' of '" + name + "' is no plain file name", path);
    }
    shard_of[name] = file;
  }
  if (shard_of.empty()) fail_index("'weight_map' is empty", path);
  return shard_of;
}

void check_shards(const std::map<std::string, std::string>& shard_of, const std::vector<TensorFile>& files,
                  const fs::path& index) {
  std::map<std::string, std::string> seen;
  for (const TensorFile& file : files) {
    const std::string shard = file.path().filename().string();
    for (const TensorBytes& tensor : file.tensors()) {
      const auto [first, is_new] = seen.emplace(tensor.name, shard);
      if (!is_new) fail_index("the tensor '" + tensor.name + "' is in " + first->second + " and in " + shard, index);
      const auto planned = shard_of.find(tensor.name);
      if (planned == shard_of.end())
        fail_index("the tensor '" + tensor.name + "' of " + shard + " is not listed", index);
      if (planned->second != shard) {
        fail_index("the tensor '" + tensor.name + "' should be in " + planned->second + " but is in " + shard, index);
      }
    }
  }
  for (const auto& [name, shard] : shard_of) {
    if (!seen.contains(name)) fail_index("the tensor '" + name + "' should be in " + shard + " but is not", index);
  }
}

std::vector<TensorFile> open_shards(const fs::path& index) {
  const fs::path folder = index.parent_path();
  const auto shard_of = read_index(index);
  std::set<std::string> shards;
  for (const auto& [name, shard] : shard_of) shards.insert(shard);
  std::vector<TensorFile> files;
  for (const std::string& shard : shards) {
    if (!fs::exists(folder / shard)) {
      fail_not_found("the index names the shard " + shard + ", which is missing", folder,
                     "download the missing file too: deltaw download NAME");
    }
    files.push_back(open_tensors(folder / shard));
  }
  check_shards(shard_of, files, index);
  return files;
}

}  // namespace

const std::vector<WeightsName>& weights_names() {
  static const std::vector<WeightsName> names = make_weights_names();
  return names;
}

fs::path find_weights(const fs::path& folder) {
  std::error_code code;
  for (const WeightsName& name : weights_names()) {
    for (const std::string& file : {name.file, name.index}) {
      if (fs::exists(folder / file, code)) return folder / file;
    }
  }
  return {};
}

bool is_weights_index(const fs::path& file) {
  return file.extension() == ".json" && file.filename().string().find(kIndex + std::string(".")) != std::string::npos;
}

const char* model_type_key(const Json& config) {
  return !config.contains("model_type") && config.contains("_class_name") ? "_class_name" : "model_type";
}

bool is_diffusers(const Json& config) {
  return model_type_key(config) == std::string("_class_name");
}

Checkpoint::Checkpoint(const fs::path& folder) : folder_(folder), config_(read_config(folder)) {
  const fs::path weights = find_weights(folder);
  if (weights.empty()) fail_without_weights(folder, config_);
  if (is_weights_index(weights)) {
    files_ = open_shards(weights);
  } else {
    files_.push_back(open_tensors(weights));
  }
  for (size_t file = 0; file < files_.size(); ++file) {
    for (const TensorBytes& tensor : files_[file].tensors()) add(tensor, file);
  }
}

Checkpoint::Checkpoint(const fs::path& file, Json config, const TensorFile& weights, std::vector<TensorBytes> tensors)
    : folder_(file), config_(std::move(config)), files_{weights} {
  for (TensorBytes& tensor : tensors) add(std::move(tensor), 0);
}

Checkpoint::Checkpoint(const fs::path& folder, Json config, const std::vector<Part>& parts,
                       std::vector<TensorBytes> more)
    : folder_(folder), config_(std::move(config)) {
  for (const Part& part : parts) {
    for (const auto& [tensor, file] : part.checkpoint->tensors_) {
      TensorBytes own = tensor;
      own.name = part.rename(tensor.name);
      if (!own.name.empty()) add(std::move(own), files_.size() + file);
    }
    files_.insert(files_.end(), part.checkpoint->files_.begin(), part.checkpoint->files_.end());
  }
  for (TensorBytes& tensor : more) add(std::move(tensor), files_.size());
}

void Checkpoint::add(TensorBytes tensor, size_t file) {
  index_[tensor.name] = tensors_.size();
  tensors_.emplace_back(std::move(tensor), file);
}

const TensorBytes* Checkpoint::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second].first;
}

void Checkpoint::release(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) return;
  const auto& [tensor, file] = tensors_[found->second];
  if (file < files_.size()) files_[file].release(tensor);
}

void Checkpoint::check_lengths() const {
  for (const TensorFile& file : files_) file.check_length();
}

const fs::path& Checkpoint::file_of(const std::string& name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) {
    const size_t file = tensors_[found->second].second;
    return file < files_.size() ? files_[file].path() : folder_;
  }
  throw Error({.id = "format.missing-tensor",
               .what = "the checkpoint has no tensor '" + name + "'",
               .where = folder_.string(),
               .fix = suggest_names(name, names(), "`deltaw info MODEL` says what is there")});
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [tensor, file] : tensors_) names.push_back(tensor.name);
  return names;
}

}  // namespace deltaw::io

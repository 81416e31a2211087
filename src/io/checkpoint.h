// A Hugging Face checkpoint folder: config.json and the weights in one file or in shards, of safetensors or of
// torch.save.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "deltaw/options.h"
#include "io/tensor_file.h"

namespace deltaw::io {

class Checkpoint {
 public:
  /// Opens `model.safetensors` or the shards that `model.safetensors.index.json` names, else `pytorch_model.bin` or the
  /// shards that its index names. Throws io.not-found (naming what is there: an adapter gets its own hint), format.*
  /// for an index that disagrees with its shards.
  explicit Checkpoint(const std::filesystem::path& folder);

  /// A model in one file of another kind, with what config.json would say and its tensors as they are called there.
  Checkpoint(const std::filesystem::path& file, Json config, const TensorFile& weights,
             std::vector<TensorBytes> tensors);

  const std::filesystem::path& folder() const { return folder_; }  // or that file
  const Json& config() const { return config_; }                   // config.json, whole

  const TensorBytes* find(const std::string& name) const;               // nullptr when absent
  void release(const std::string& name) const;                          // as TensorFile's
  void check_lengths() const;                                           // as TensorFile's
  const std::filesystem::path& file_of(const std::string& name) const;  // throws format.missing-tensor
  std::vector<std::string> names() const;                               // every tensor, in file order
  const std::vector<TensorFile>& files() const { return files_; }

 private:
  void add(TensorBytes tensor, size_t file);

  std::filesystem::path folder_;
  Json config_;
  std::vector<TensorFile> files_;
  std::vector<std::pair<TensorBytes, size_t>> tensors_;  // with the number of their file
  std::map<std::string, size_t> index_;                  // by name
};

/// The names of a checkpoint's weights, the first that is there counts; with the suffix, those of the list of shards.
inline constexpr const char* kWeights[] = {"model.safetensors", "pytorch_model.bin"};
inline constexpr const char* kIndexSuffix = ".index.json";

/// Where `model_name_or_path` lies: the folder or GGUF file itself, or the snapshot of that hub name in the local
/// Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; revision
/// from refs/main). "organisation/name:Q4_K_M" is the GGUF file of that quantisation there, and "folder:Q4_K_M" of a
/// folder. A folder without a checkpoint that holds one GGUF file leads to that file. Throws
/// config.model-not-found: with the command that downloads it, or with the names where there are several GGUF files.
std::filesystem::path resolve_model(const std::string& model_name_or_path);

}  // namespace deltaw::io

// A checkpoint folder of transformers or of diffusers: config.json and the weights in one file or in shards, of
// safetensors or of torch.save.
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
  /// Opens the file of find_weights(), or the shards that it lists. Throws io.not-found (naming what is there: an
  /// adapter gets its own hint), format.* for an index that disagrees with its shards.
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

/// The weights of a checkpoint's folder, one file or the list of its shards ("model.safetensors.index.json"): of
/// transformers before diffusers, in safetensors before torch.save, in the variant "fp16" where there is no other.
/// Empty where there are none.
std::filesystem::path find_weights(const std::filesystem::path& folder);
/// Whether a file lists shards, by its name.
bool is_weights_index(const std::filesystem::path& file);

/// The key of a config.json that says what the model is: "model_type" of transformers, or "_class_name" of diffusers.
const char* model_type_key(const Json& config);
/// Whether the folder of a config.json is one of diffusers.
bool is_diffusers(const Json& config);

}  // namespace deltaw::io

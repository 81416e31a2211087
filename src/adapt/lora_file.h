// LoRA files of image models: factors for the layers of a UNet, and of the text encoder beside it, in one file without
// a config. Whose tensor a name stands for is in adapt/lora_keys.h.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapt/lora_keys.h"
#include "deltaw/adapter.h"
#include "io/tensor_file.h"

namespace deltaw {

/// The names of the files that are written, and of what diffusers' say of their adapters.
inline constexpr const char *kDiffusersLora = "pytorch_lora_weights.safetensors", *kKohyaLora = "lora.safetensors",
                            *kLoraMetadata = "lora_adapter_metadata";

/// What an adapter does to one layer: dW = alpha / r B A, and with a magnitude DoRA's weight.
struct LoraLayer {
  std::string module;  // by its name in the model
  Tensor A, B;         // [r, d_in] and [d_out, r], or [r, channels, rows, columns] and [d_out, r, 1, 1]
  double alpha = 0;
  Tensor magnitude = {};  // [d_out]; undefined where there is none
  Tensor bias = {};       // [d_out], of lora_B; undefined where there is none

  int64_t rank() const { return A.size(0); }
  double scale() const { return alpha / static_cast<double>(rank()); }
  bool of_convolution() const { return A.dim() == 4; }
  /// The magnitude in the shape that PEFT and diffusers give it.
  Tensor stored_magnitude() const { return of_convolution() ? magnitude.reshape({1, -1, 1, 1}) : magnitude; }
};

/// What an adapter does to one part of a pipeline.
struct LoraPart {
  std::string part;  // kUnetPart or kTextPart
  std::vector<LoraLayer> layers = {};
  Json more = Json::object();  // what a config said beside ranks, alphas and layers
};

class LoraFile {
 public:
  /// Throws what opening the file throws, config.no-adapter where it holds no such factors, config.unsupported for
  /// other algorithms of LyCORIS.
  explicit LoraFile(const std::filesystem::path& path);
  /// The same of PEFT's folder, a LoRA or DoRA of one part, or of a UNet with a text encoder below its name. Throws
  /// config.unsupported for other adapters, and for starts that change the base.
  static LoraFile of_peft(const std::filesystem::path& folder, const std::string& part);

  const std::filesystem::path& path() const { return file_->path(); }
  const std::map<std::string, std::string>& metadata() const { return file_->metadata(); }
  bool is_kohya() const { return kohya_; }
  /// Of parts that the keys name, how many layers of each the file has; the UNet's where they name none.
  std::map<std::string, int64_t> parts() const;
  /// The modules of a part, as the file spells them.
  std::vector<std::string> modules_of(const std::string& part) const;

  /// What adapter_config.json would say but for the layers, of the UNet or else the first part: method, commonest rank
  /// and alpha. Nothing else is looked at.
  Json outline() const;

  /// The factors of the part's modules; the keys that mean none of them, whatever part they are of, are added to
  /// `left`. Alpha is that of the file's lora_adapter_metadata, else of its tensor, else the rank. Throws format.* for
  /// factors that lack or do not fit each other.
  LoraPart placed(const LoraModules& modules, std::vector<std::string>& left) const;
  /// Of several parts those that the file has factors for; `left` gets what is of no part.
  std::vector<LoraPart> placed(const std::vector<LoraModules>& parts, std::vector<std::string>& left) const;

  void check_length() const { file_->check_length(); }

 private:
  struct Layer {
    LoraKey key;  // of its first tensor
    std::map<LoraTensor, const io::TensorBytes*> tensors;
  };

  /// `peft_part`: the names are PEFT's, of this part.
  LoraFile(const io::TensorFile& file, const std::string& peft_part);
  LoraLayer read(const Layer& layer, const std::string& module, const Json& config) const;
  double alpha_of(const Layer& layer, const std::string& module, const Json& config, int64_t rank) const;
  std::string name_in_config(const Layer& layer, const std::string& module) const;
  Json config_of(const std::string& part) const;

  std::shared_ptr<const io::TensorFile> file_;
  std::vector<Layer> layers_;
  std::vector<std::string> others_;  // keys that are none of a LoRA
  bool kohya_ = false;
  Json peft_config_;       // adapter_config.json of PEFT's folder
  std::string peft_part_;  // that its names without a part are of
};

/// The LoRA file that a path names: itself, or the one in a folder without adapter_config.json. Empty where there is
/// none; throws config.no-adapter for a folder with several, and what opening a file throws.
std::filesystem::path find_lora_file(const std::filesystem::path& path);

/// The factors in the shapes that PEFT gives them on a layer whose weight is [d_out, d_in], or [d_out, channels, rows,
/// columns]: matrices for kernels of 1 x 1 become these, and the other way round. Throws shape.mismatch.
LoraLayer fitted(LoraLayer layer, const std::vector<int64_t>& weight, const std::filesystem::path& file);

/// adapter_config.json of a part, with ranks and alphas as PEFT's patterns.
Json peft_config(const LoraPart& part);

/// A layer's tensors under PEFT's names.
std::vector<NamedTensor> peft_tensors(const LoraLayer& layer);

/// What one of PEFT's configs says the alpha of a module is that scales by alpha / r.
double peft_alpha(const Json& config, const std::string& module, int64_t rank, const std::string& where);

}  // namespace deltaw

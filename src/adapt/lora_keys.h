// How LoRA files of image models name what they hold of a layer. Two kinds of names are about, of diffusers and of
// kohya's scripts, which A1111 and ComfyUI share:
//
//   unet.mid_block.attentions.0.proj_in.lora_A.weight          lora_B.weight, lora_B.bias, lora_magnitude_vector
//   unet.mid_block.attentions.0.proj_in.lora.down.weight       lora.up.weight
//   unet.[...].attn1.processor.to_q_lora.down.weight           to_q_lora.up.weight: of the module [...].attn1.to_q
//   text_encoder.[...].q_proj.lora_linear_layer.down.weight    lora_linear_layer.up.weight
//   lora_unet_mid_block_attentions_0_proj_in.lora_down.weight  lora_up.weight, alpha, dora_scale
//
// Sources: diffusers, loaders/lora_base.py and utils/state_dict_utils.py; kohya-ss/sd-scripts, networks/lora.py;
// LyCORIS, modules/locon.py.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace deltaw {

/// The parts of a pipeline that such a file may adapt, by diffusers' names.
inline constexpr const char *kUnetPart = "unet", *kTextPart = "text_encoder";

/// What a tensor is to its layer.
enum class LoraTensor { A, B, bias, alpha, magnitude };

struct LoraKey {
  std::string part;    // of the pipeline; empty where the key names none, as in diffusers' first files: the UNet
  std::string module;  // as the file spells it
  bool flat = false;   // with _ in place of the dots
  LoraTensor tensor = LoraTensor::A;
};

/// What a key says; nothing for one of another kind. Throws config.unsupported for a tensor of LyCORIS that is more
/// than two factors, by name; `file` is where.
std::optional<LoraKey> lora_key(const std::string& key, const std::string& file);

/// "lora_unet_mid_block_attentions_0_proj_in". Of the text encoder the module has its prefix "text_model.".
std::string kohya_layer(const std::string& part, const std::string& module);
/// "unet.mid_block.attentions.0.proj_in", in the same way.
std::string diffusers_layer(const std::string& part, const std::string& module);
/// The end of a module's name that every version of transformers has.
std::string common_name(const std::string& part, const std::string& module);

/// Finds the modules of one part by whatever files call them. Names with _ are made of the modules' own and looked up:
/// where a dot was, they do not say.
class LoraModules {
 public:
  LoraModules(const std::string& part, const std::vector<std::string>& modules);

  const std::string& part() const { return part_; }
  /// The module that a key means, nothing where there is none. Throws format.ambiguous-name where it may be two.
  std::optional<std::string> find(const LoraKey& key, const std::string& file) const;

 private:
  using Index = std::map<std::string, std::set<std::string>>;  // modules by a spelling

  std::string part_;
  Index dotted_, flat_;
};

}  // namespace deltaw

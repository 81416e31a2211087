#include "adapt/lora_keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/printable.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

struct PartPrefix {
  const char *prefix, *part;
};
constexpr PartPrefix kKohyaParts[] = {
    {"lora_unet_", kUnetPart}, {"lora_te_", kTextPart}, {"lora_te1_", kTextPart}, {"lora_te2_", "text_encoder_2"}};
constexpr PartPrefix kDiffusersParts[] = {{"unet.", kUnetPart},
                                          {"text_encoder.", kTextPart},
                                          {"text_encoder_2.", "text_encoder_2"},
                                          {"transformer.", "transformer"}};
constexpr const char* kTextModel = "text_model.";

struct TensorEnding {
  const char* ending;
  LoraTensor tensor;
  bool of_processor = false;  // only behind the names of an attention processor
};
constexpr TensorEnding kEndings[] = {{".lora_A.weight", LoraTensor::A},
                                     {".lora_B.weight", LoraTensor::B},
                                     {".lora_B.bias", LoraTensor::bias},
                                     {".lora.down.weight", LoraTensor::A},
                                     {".lora.up.weight", LoraTensor::B},
                                     {".lora.alpha", LoraTensor::alpha},
                                     {".lora_linear_layer.down.weight", LoraTensor::A},
                                     {".lora_linear_layer.up.weight", LoraTensor::B},
                                     {".lora_linear_layer.alpha", LoraTensor::alpha},
                                     {".lora_magnitude_vector", LoraTensor::magnitude},
                                     {".lora_magnitude_vector.weight", LoraTensor::magnitude},
                                     {".lora_down.weight", LoraTensor::A},
                                     {".lora_up.weight", LoraTensor::B},
                                     {".dora_scale", LoraTensor::magnitude},
                                     {".alpha", LoraTensor::alpha},
                                     {".down.weight", LoraTensor::A, true},
                                     {".up.weight", LoraTensor::B, true}};

/// The layers that diffusers' attention processors had, and the modules that they belong to.
struct ProcessorLayer {
  const char *ending, *module;
};
constexpr ProcessorLayer kProcessorLayers[] = {{".to_q_lora", ".to_q"},
                                               {".to_k_lora", ".to_k"},
                                               {".to_v_lora", ".to_v"},
                                               {".to_out_lora", ".to_out.0"},
                                               {".to_out", ".to_out.0"}};  // of magnitudes that diffusers renamed

/// The names that diffusers' processors have for the layers of CLIP's attention.
constexpr ProcessorLayer kClipLayers[] = {
    {".q_proj", ".to_q"}, {".k_proj", ".to_k"}, {".v_proj", ".to_v"}, {".out_proj", ".to_out.0"}};

/// Tensors of LyCORIS' other algorithms, by how their names begin behind the layer's.
struct OtherTensor {
  const char *beginning, *what;
};
constexpr OtherTensor kOthers[] = {{"lora_mid", "the core of a Tucker decomposition (LoCon with use_tucker or use_cp)"},
                                   {"hada_", "a tensor of LyCORIS' LoHa"},
                                   {"lokr_", "a tensor of LyCORIS' LoKr"},
                                   {"oft_", "a tensor of LyCORIS' OFT"},
                                   {"on_input", "a tensor of LyCORIS' IA3"},
                                   {"a1.", "a tensor of LyCORIS' GLoRA"},
                                   {"diff", "the difference of a whole tensor"},
                                   {"w_norm", "a norm that was trained"},
                                   {"b_norm", "a norm that was trained"}};

std::string flattened(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

void refuse_others(const std::string& key, const std::string& behind, const std::string& file) {
  for (const OtherTensor& other : kOthers) {
    if (!behind.starts_with(other.beginning)) continue;
    throw Error({.id = "config.unsupported",
                 .what = fmt::format("'{}' is {}, and what is read are factors lora_down and lora_up", printable(key),
                                     other.what),
                 .where = file,
                 .fix = "merge the file into its base with the tool that made it, and give the merged model"});
  }
}

/// Cuts the part off the front of `name`.
std::string cut_part(std::string& name, const PartPrefix& part) {
  name.erase(0, std::string(part.prefix).size());
  return part.part;
}

/// "[...].attn1.processor.to_q_lora" -> "[...].attn1.to_q"; whether it is of a processor.
bool leave_processor(std::string& module) {
  bool found = false;
  for (const ProcessorLayer& layer : kProcessorLayers) {
    if (!module.ends_with(layer.ending)) continue;
    module.replace(module.size() - std::string(layer.ending).size(), std::string::npos, layer.module);
    found = true;
    break;
  }
  const std::string between = ".processor";
  if (const size_t at = module.find(between + "."); at != std::string::npos) module.erase(at, between.size());
  return found;
}

std::string without_text_model(const std::string& module) {
  return module.starts_with(kTextModel) ? module.substr(std::string(kTextModel).size()) : module;
}

/// All that files may call a module of the text encoder: with and without the prefix that transformers 5 dropped, and
/// as diffusers' first version called CLIP's attention.
std::vector<std::string> text_spellings(const std::string& module) {
  const std::string bare = without_text_model(module);
  std::vector<std::string> names = {bare, kTextModel + bare};
  for (const ProcessorLayer& layer : kClipLayers) {
    if (!bare.ends_with(layer.ending)) continue;
    for (size_t i : {0, 1}) {
      const std::string stem = names[i].substr(0, names[i].size() - std::string(layer.ending).size());
      names.push_back(stem + layer.module);
    }
  }
  return names;
}

std::string with_text_model(const std::string& part, const std::string& module) {
  return part == kTextPart ? kTextModel + without_text_model(module) : module;
}

}  // namespace

std::optional<LoraKey> lora_key(const std::string& key, const std::string& file) {
  LoraKey found;
  std::string name = key;
  for (const PartPrefix& part : kKohyaParts) {
    if (!name.starts_with(part.prefix)) continue;
    found.part = cut_part(name, part);
    found.flat = true;
    const size_t dot = std::min(name.find('.'), name.size());
    refuse_others(key, name.substr(std::min(dot + 1, name.size())), file);
    break;
  }
  for (const PartPrefix& part : kDiffusersParts) {
    if (found.flat || !name.starts_with(part.prefix)) continue;
    found.part = cut_part(name, part);
    break;
  }
  if (name.starts_with("base_model.")) return std::nullopt;  // PEFT's
  for (const TensorEnding& ending : kEndings) {
    if (!name.ends_with(ending.ending)) continue;
    found.module = name.substr(0, name.size() - std::string(ending.ending).size());
    found.tensor = ending.tensor;
    const bool of_processor = !found.flat && leave_processor(found.module);
    if (ending.of_processor && !of_processor) return std::nullopt;
    if (found.module.empty() || (found.flat && found.module.find('.') != std::string::npos)) return std::nullopt;
    return found;
  }
  return std::nullopt;
}

std::string kohya_layer(const std::string& part, const std::string& module) {
  const auto* found = std::find_if(std::begin(kKohyaParts), std::end(kKohyaParts),
                                   [&](const PartPrefix& prefix) { return part == prefix.part; });
  return found->prefix + flattened(with_text_model(part, module));
}

std::string diffusers_layer(const std::string& part, const std::string& module) {
  return part + "." + with_text_model(part, module);
}

std::string common_name(const std::string& part, const std::string& module) {
  return part == kTextPart ? without_text_model(module) : module;
}

LoraModules::LoraModules(const std::string& part, const std::vector<std::string>& modules) : part_(part) {
  for (const std::string& module : modules) {
    const std::vector<std::string> spellings =
        part == kTextPart ? text_spellings(module) : std::vector<std::string>{module};
    for (const std::string& spelling : spellings) {
      dotted_[spelling].insert(module);
      flat_[flattened(spelling)].insert(module);
    }
  }
}

std::optional<std::string> LoraModules::find(const LoraKey& key, const std::string& file) const {
  const Index& index = key.flat ? flat_ : dotted_;
  const auto found = index.find(key.module);
  if (found == index.end()) return std::nullopt;
  if (found->second.size() == 1) return *found->second.begin();
  throw Error({.id = "format.ambiguous-name",
               .what = fmt::format("'{}' may be '{}'", key.module, fmt::join(found->second, "' or '")),
               .where = file,
               .fix = "save the file by diffusers, whose names keep the dots"});
}

}  // namespace deltaw

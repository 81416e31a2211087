#include "adapt/lora_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "adapt/config.h"
#include "core/files.h"
#include "deltaw/adapter.h"
#include "deltaw/error.h"
#include "io/safetensors.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// scale tensor in the tensor's own type where that holds it exactly, else in float32.
Tensor scaled(const Tensor& tensor, double scale) {
  if (scale == 1) return tensor;
  const Tensor wide = tensor.to(at::kDouble) * scale, own = wide.to(tensor.scalar_type());
  return ops::host_equal(own.to(at::kDouble), wide) ? own : wide.to(at::kFloat);
}

void write_tensors(const fs::path& file, std::vector<NamedTensor> tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<io::TensorBytes> bytes;
  for (NamedTensor& tensor : tensors) {
    tensor.value = tensor.value.contiguous();
    bytes.push_back(to_bytes(tensor.name, tensor.value));
  }
  io::write_safetensors(file, bytes, metadata);
}

/// A config of PEFT says of all layers alike whether they have magnitudes; what lacks then is made without the update.
void refuse_some_magnitudes(const LoraPart& part) {
  const auto has = [](const LoraLayer& layer) { return layer.magnitude.defined(); };
  const auto with = std::find_if(part.layers.begin(), part.layers.end(), has);
  const auto without = std::find_if_not(part.layers.begin(), part.layers.end(), has);
  if (with == part.layers.end() || without == part.layers.end()) return;
  throw Error({.id = "config.no-export",
               .what = fmt::format("'{}' has a magnitude (DoRA) and '{}' none, which kohya's files alone can say",
                                   with->module, without->module),
               .where = "key \"to\"",
               .fix = "`deltaw export` takes the magnitudes that lack from the base"});
}

LoraPart with_folded_scale(LoraPart part) {
  for (LoraLayer& layer : part.layers) {
    layer.B = scaled(layer.B, layer.scale());
    if (layer.bias.defined()) layer.bias = scaled(layer.bias, layer.scale());
    layer.alpha = static_cast<double>(layer.rank());
  }
  return part;
}

/// [d_out, 1] or [d_out, 1, 1, 1], which LyCORIS' readers tell from scales of the inputs by its first axis.
Tensor dora_scale(const LoraLayer& layer) {
  std::vector<int64_t> shape(static_cast<size_t>(layer.A.dim()), 1);
  shape[0] = layer.magnitude.size(0);
  return layer.magnitude.reshape(shape);
}

std::string python_number(double value) {
  return value == std::floor(value) ? fmt::format("{:.1f}", value) : fmt::format("{}", value);
}

/// What kohya's scripts say of a network: ranks and alphas of linear layers and 1 x 1 convolutions, and of others.
std::map<std::string, std::string> kohya_metadata(const std::vector<LoraPart>& parts, const Json& unet) {
  int64_t rank = 0, conv_rank = 0;
  double alpha = 0, conv_alpha = 0;
  bool magnitudes = false;
  for (const LoraPart& part : parts) {
    for (const LoraLayer& layer : part.layers) {
      const bool wide = layer.of_convolution() && layer.A.size(2) * layer.A.size(3) > 1;
      if (layer.rank() > (wide ? conv_rank : rank)) {
        (wide ? conv_rank : rank) = layer.rank();
        (wide ? conv_alpha : alpha) = layer.alpha;
      }
      magnitudes |= layer.magnitude.defined();
    }
  }
  Json args = Json::object();
  if (magnitudes) args = {{"algo", "locon"}, {"dora_wd", "True"}, {"wd_on_out", "True"}};
  if (conv_rank > 0)
    args.update({{"conv_dim", fmt::format("{}", conv_rank)}, {"conv_alpha", python_number(conv_alpha)}});
  std::map<std::string, std::string> metadata = {{"ss_network_module", magnitudes ? "lycoris.kohya" : "networks.lora"},
                                                 {"ss_network_dim", fmt::format("{}", rank > 0 ? rank : conv_rank)},
                                                 {"ss_network_alpha", python_number(rank > 0 ? alpha : conv_alpha)}};
  if (!args.empty()) metadata["ss_network_args"] = args.dump();
  const Json text = unet.value("cross_attention_dim", Json());  // tells the versions of Stable Diffusion apart
  if (text == 768) metadata.insert({{"ss_base_model_version", "sd_v1"}, {"ss_v2", "False"}});
  if (text == 1024) metadata["ss_v2"] = "True";
  return metadata;
}

}  // namespace

void write_diffusers_lora(const std::vector<LoraPart>& parts, const fs::path& folder) {
  std::vector<NamedTensor> tensors;
  Json all = Json::object();
  for (const LoraPart& given : parts) {
    refuse_some_magnitudes(given);
    LoraPart part = with_folded_scale(given);
    const bool text = part.part == kTextPart;
    for (const LoraLayer& layer : part.layers) {
      const std::string name = diffusers_layer(part.part, layer.module) + ".";
      tensors.push_back({name + (text ? "lora_linear_layer.down.weight" : "lora_A.weight"), layer.A});
      tensors.push_back({name + (text ? "lora_linear_layer.up.weight" : "lora_B.weight"), layer.B});
      if (layer.bias.defined()) tensors.push_back({name + "lora_B.bias", layer.bias});
      if (!layer.magnitude.defined()) continue;
      // transformers 5, which reads that part, passes over the name without ".weight".
      tensors.push_back(
          {name + (text ? "lora_magnitude_vector.weight" : "lora_magnitude_vector"), layer.stored_magnitude()});
    }
    for (LoraLayer& layer : part.layers) layer.module = common_name(part.part, layer.module);
    Json config = peft_config(part);
    config.update({{"lora_dropout", 0.0}, {"bias", "none"}, {"init_lora_weights", true}, {"inference_mode", true}});
    for (const auto& [key, value] : config.items()) all[part.part + "." + key] = value;
  }
  write_tensors(folder / kDiffusersLora, std::move(tensors),
                {{"format", "pt"}, {kLoraMetadata, nlohmann::json(all).dump(2)}});
}

void write_kohya_lora(const std::vector<LoraPart>& parts, const Json& unet, const fs::path& folder) {
  std::vector<NamedTensor> tensors;
  for (const LoraPart& part : parts) {
    for (const LoraLayer& layer : part.layers) {
      if (layer.bias.defined()) {
        throw Error({.id = "config.no-export",
                     .what = fmt::format("kohya's files hold no biases, and '{}' has one", layer.module),
                     .where = "key \"to\"",
                     .fix = "diffusers' hold them: --to diffusers"});
      }
      const std::string name = kohya_layer(part.part, layer.module) + ".";
      tensors.push_back({name + "lora_down.weight", layer.A});
      tensors.push_back({name + "lora_up.weight", layer.B});
      tensors.push_back({name + "alpha", at::scalar_tensor(layer.alpha, at::kFloat)});
      if (layer.magnitude.defined()) tensors.push_back({name + "dora_scale", dora_scale(layer)});
    }
  }
  write_tensors(folder / kKohyaLora, std::move(tensors), kohya_metadata(parts, unet));
}

void write_peft_lora(const std::vector<LoraPart>& parts, const std::string& base, const fs::path& folder) {
  for (const LoraPart& part : parts) {
    refuse_some_magnitudes(part);
    const fs::path own = part.part == kUnetPart ? folder : folder / part.part;
    fs::create_directories(own);
    std::vector<NamedTensor> tensors;
    for (const LoraLayer& layer : part.layers) {
      for (NamedTensor& tensor : peft_tensors(layer)) tensors.push_back(std::move(tensor));
    }
    AdapterConfig config = adapter_config_from_json(peft_config(part), part.part);
    config.base_model_name_or_path = base;
    write_tensors(own / "adapter_model.safetensors", std::move(tensors), {{"format", "pt"}});
    write_json(own / "adapter_config.json", adapter_config_to_json(config), KeyOrder::outermost_sorted);
  }
}

LoraPart with_one_alpha(LoraPart part) {
  int64_t highest = 1;
  for (const LoraLayer& layer : part.layers) highest = std::max(highest, layer.rank());
  const auto alpha = static_cast<double>(highest);
  for (LoraLayer& layer : part.layers) {
    layer.B = scaled(layer.B, layer.alpha / alpha);
    layer.alpha = alpha;
  }
  return part;
}

}  // namespace deltaw

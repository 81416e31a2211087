#include "adapt/lora_adapter.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>

#include "adapt/adapter_file.h"
#include "adapt/export_formats.h"
#include "core/json_fields.h"
#include "core/log.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "deltaw/pipeline.h"
#include "models/loader.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr size_t kShownLayers = 3;

bool is_denoiser(const Model& model) {
  return dynamic_cast<const Denoiser*>(&model) != nullptr;
}

std::vector<std::string> layer_names_of(const Model& model) {
  std::vector<std::string> names;
  for (const Layer* layer : model.layers()) names.push_back(layer->name);
  return names;
}

/// The part of the pipeline that a denoiser's module is of; its name there remains.
std::string cut_scope(std::string& module) {
  if (!module.starts_with(kTextEncoderScope)) return kUnetPart;
  module.erase(0, kTextEncoderScope.size());
  return kTextPart;
}

std::vector<LoraModules> parts_in(const Model& model) {
  if (!is_denoiser(model)) return {LoraModules(kTextPart, layer_names_of(model))};
  std::map<std::string, std::vector<std::string>> modules = {{kUnetPart, {}}};
  for (std::string& name : layer_names_of(model)) {
    const std::string part = cut_scope(name);
    modules[part].push_back(std::move(name));
  }
  std::vector<LoraModules> parts;
  for (const auto& [part, names] : modules) parts.emplace_back(part, names);
  return parts;
}

/// The layers of all parts by the names that the model has for them. What else configs say is that of the first part.
LoraPart joined(std::vector<LoraPart> parts, const Model& model) {
  LoraPart whole = std::move(parts.front());
  const auto add_scope = [&](LoraLayer& layer, const std::string& part) {
    if (is_denoiser(model) && part == kTextPart) layer.module.insert(0, kTextEncoderScope);
  };
  for (LoraLayer& layer : whole.layers) add_scope(layer, whole.part);
  for (size_t i = 1; i < parts.size(); ++i) {
    for (LoraLayer& layer : parts[i].layers) {
      add_scope(layer, parts[i].part);
      whole.layers.push_back(std::move(layer));
    }
  }
  return whole;
}

std::string first_of(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kShownLayers);
  return fmt::format("{}{}", fmt::join(names.begin(), names.begin() + static_cast<int64_t>(shown), ", "),
                     shown < names.size() ? ", ..." : "");
}

/// The shape of a layer's weight, of a convolution that of its kernels.
std::vector<int64_t> weight_shape(const LayerInfo& info) {
  if (info.kind != LayerKind::conv2d) return {info.d_out, info.d_in};
  return {info.d_out, info.channels(), info.kernel[0], info.kernel[1]};
}

/// With what PEFT's config asks of every layer where one has it: the bias 0, and the magnitude of W0 + s B A, which
/// change nothing.
LoraLayer completed(LoraLayer layer, const Layer& of_model, bool magnitudes, bool biases) {
  if (biases && !layer.bias.defined()) layer.bias = at::zeros({layer.B.size(0)}, layer.B.options());
  if (!magnitudes || layer.magnitude.defined()) return layer;
  const at::NoGradGuard constant;
  const Tensor update = at::mm(layer.B.flatten(1).to(at::kFloat), layer.A.flatten(1).to(at::kFloat));
  layer.magnitude = (of_model.matrix().to(at::kFloat) + layer.scale() * update).norm(2, 1);
  return layer;
}

/// Copies of the tensors, as if the file held them.
class LoraTensors final : public io::TensorFile {
 public:
  LoraTensors(const LoraFile& file, const std::vector<NamedTensor>& tensors) : TensorFile(file.path()) {
    for (const NamedTensor& tensor : tensors) {
      const Tensor value = tensor.value.contiguous();
      io::TensorBytes bytes = to_bytes(tensor.name, value);
      std::byte* copy = allocate(bytes.size());
      std::memcpy(copy, bytes.data, bytes.size());
      bytes.data = copy;
      add(std::move(bytes));
    }
  }
};

[[noreturn]] void refuse_all_left(const std::vector<LoraFile>& files, const Model& model) {
  std::vector<std::string> names;
  for (const LoraFile& file : files) {
    for (const auto& [part, count] : file.parts()) {
      for (std::string& name : file.modules_of(part)) names.push_back(std::move(name));
    }
  }
  const bool sgm = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("input_blocks") != std::string::npos || name.find("output_blocks") != std::string::npos;
  });
  throw Error({.id = "format.no-such-layer",
               .what = fmt::format("none of the file's {} layers is one of this model: it has {}, and the model {}",
                                   names.size(), printable(first_of(names)), first_of(layer_names_of(model))),
               .where = files.front().path().string(),
               .fix = sgm ? "these are names of Stable Diffusion XL, which is not supported"
                          : "give the model that the file was made for as model_name_or_path"});
}

void warn_of_left(const LoraFile& file, const std::vector<std::string>& left) {
  if (left.empty()) return;
  log().warn("{}: {} tensors are of no layer of this model and were left out: {}", file.path().string(), left.size(),
             printable(fmt::format("{}", fmt::join(left, ", "))));
}

/// What all of them hold, as one adapter.
AdapterContents contents_of(const std::vector<LoraFile>& files, const Model& model) {
  std::vector<LoraPart> parts;
  std::vector<std::vector<std::string>> left(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    std::vector<LoraPart> own = files[i].placed(parts_in(model), left[i]);
    std::move(own.begin(), own.end(), std::back_inserter(parts));
  }
  if (parts.empty()) refuse_all_left(files, model);
  const LoraPart whole = joined(std::move(parts), model);
  for (size_t i = 0; i < files.size(); ++i) warn_of_left(files[i], left[i]);
  std::map<std::string, const Layer*> layers;
  for (const Layer* layer : model.layers()) layers[layer->name] = layer;
  std::vector<NamedTensor> tensors;
  const auto some_have = [&](Tensor LoraLayer::*what) {
    return std::any_of(whole.layers.begin(), whole.layers.end(),
                       [&](const LoraLayer& layer) { return (layer.*what).defined(); });
  };
  const bool magnitudes = some_have(&LoraLayer::magnitude), biases = some_have(&LoraLayer::bias);
  for (const LoraLayer& layer : whole.layers) {
    const Layer& own = *layers.at(layer.module);
    const LoraLayer whole_layer =
        completed(fitted(layer, weight_shape(own.info()), files[0].path()), own, magnitudes, biases);
    for (NamedTensor& tensor : peft_tensors(whole_layer)) tensors.push_back(std::move(tensor));
  }
  for (const LoraFile& file : files) file.check_length();
  return {.config = peft_config(whole), .tensors = LoraTensors(files.front(), tensors)};
}

}  // namespace

AdapterContents read_lora_file(const fs::path& file, const Model& model) {
  return contents_of({LoraFile(file)}, model);
}

std::vector<LoraFile> peft_parts(const fs::path& folder) {
  std::vector<LoraFile> files = {LoraFile::of_peft(folder, kUnetPart)};
  if (has_peft_text_encoder(folder)) files.push_back(LoraFile::of_peft(folder / kTextPart, kTextPart));
  return files;
}

bool has_peft_text_encoder(const fs::path& folder) {
  std::error_code unseen;
  return fs::exists(folder / kTextPart / "adapter_config.json", unseen);
}

AdapterContents read_peft_parts(const fs::path& folder, const Model& model) {
  AdapterContents contents = contents_of(peft_parts(folder), model);
  contents.config["base_model_name_or_path"] =
      read_json_object(folder / "adapter_config.json", "format.bad-adapter").value("base_model_name_or_path", Json());
  return contents;
}

std::vector<LoraPart> lora_parts_of(const Adapter& lora, const std::string& what) {
  if (!is_denoiser(lora.model())) {
    throw Error({.id = "config.no-export",
                 .what = what + " is of an image model, and this is none: " + lora.model().architecture(),
                 .where = "key \"to\"",
                 .fix = "--to lora writes PEFT's files"});
  }
  std::map<std::string, LoraPart, std::greater<>> parts;  // the UNet first
  for (const AdaptedLayer* layer : lora.layers()) {
    if (layer->info.kind != LayerKind::linear && layer->info.kind != LayerKind::conv2d)
      refuse_layer(*layer, what, "which has factors of linear layers and convolutions alone");
    LoraLayer own{.module = layer->info.name};
    for (const Param& param : layer->params.all()) {
      const Tensor value = in_file(param).detach();
      if (param.name == "lora_A") own.A = value;
      if (param.name == "lora_B") own.B = value;
      if (param.name == "lora_magnitude_vector") own.magnitude = param.value.detach();
      if (param.name == "bias") own.bias = value;
    }
    own.alpha = layer->update().scale * static_cast<double>(own.rank());
    LoraPart& part = parts[cut_scope(own.module)];
    part.layers.push_back(std::move(own));
  }
  std::vector<LoraPart> all;
  for (auto& [name, part] : parts) {
    part.part = name;
    all.push_back(std::move(part));
  }
  return all;
}

bool changes_text_encoder(const fs::path& adapter) {
  const AdapterFolder folder = open_adapter_folder(adapter);
  if (!folder.parts.empty()) {
    return std::any_of(folder.parts.begin(), folder.parts.end(),
                       [](const PartEntry& part) { return changes_text_encoder(part.folder); });
  }
  if (!folder.lora_file.empty()) return LoraFile(folder.lora_file).parts().contains(kTextPart);
  if (has_peft_text_encoder(folder.path)) return true;
  const io::TensorFile file = open_adapter_tensors(folder);
  return std::any_of(file.tensors().begin(), file.tensors().end(), [](const io::TensorBytes& tensor) {
    return tensor.name.starts_with(kModel) && tensor.name.substr(kModel.size()).starts_with(kTextEncoderScope);
  });
}

}  // namespace deltaw

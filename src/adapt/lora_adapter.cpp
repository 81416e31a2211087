#include "adapt/lora_adapter.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "adapt/adapter_file.h"
#include "adapt/export_formats.h"
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

/// A factor in the shape that PEFT gives it on this layer: 1 x 1 convolutions stand as matrices too, and matrices as
/// such convolutions. Another size is left as it is.
Tensor shaped(const Tensor& factor, const std::vector<int64_t>& shape) {
  const at::IntArrayRef wanted(shape);
  const bool points =
      factor.numel() == factor.size(0) * factor.size(1) && factor.numel() == c10::multiply_integers(wanted);
  return points && wanted.slice(0, 2) == factor.sizes().slice(0, 2) ? factor.reshape(shape) : factor;
}

/// The factors in the shapes that they have on this layer.
LoraLayer fitted(LoraLayer layer, const LayerInfo& info, const fs::path& file) {
  const int64_t r = layer.rank();
  std::vector<int64_t> A_shape = {r, info.d_in}, B_shape = {info.d_out, r};
  if (info.kind == LayerKind::conv2d) {
    A_shape = {r, info.channels(), info.kernel[0], info.kernel[1]};
    B_shape = {info.d_out, r, 1, 1};
  }
  const auto fit = [&](Tensor& factor, const std::vector<int64_t>& shape, const char* which) {
    factor = shaped(factor, shape);
    if (factor.sizes() == at::IntArrayRef(shape)) return;
    throw Error({.id = "shape.mismatch",
                 .what = fmt::format("the {} factor of '{}' is {}, this base makes it {}", which, info.name,
                                     io::shape_text(factor.sizes().vec()), io::shape_text(shape)),
                 .where = file.string(),
                 .fix = "use the base model that the file was made for"});
  };
  fit(layer.A, A_shape, "first");
  fit(layer.B, B_shape, "second");
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

[[noreturn]] void refuse_all_left(const LoraFile& file, const Model& model) {
  std::vector<std::string> names;
  for (const auto& [part, count] : file.parts()) {
    for (std::string& name : file.modules_of(part)) names.push_back(std::move(name));
  }
  const bool sgm = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("input_blocks") != std::string::npos || name.find("output_blocks") != std::string::npos;
  });
  throw Error({.id = "format.no-such-layer",
               .what = fmt::format("none of the file's {} layers is one of this model: it has {}, and the model {}",
                                   names.size(), printable(first_of(names)), first_of(layer_names_of(model))),
               .where = file.path().string(),
               .fix = sgm ? "these are names of Stable Diffusion XL, which is not supported"
                          : "give the model that the file was made for as model_name_or_path"});
}

void warn_of_left(const LoraFile& file, const std::vector<std::string>& left) {
  if (left.empty()) return;
  log().warn("{}: {} tensors are of no layer of this model and were left out: {}", file.path().string(), left.size(),
             printable(fmt::format("{}", fmt::join(left, ", "))));
}

}  // namespace

AdapterContents read_lora_file(const fs::path& path, const Model& model) {
  const LoraFile file(path);
  std::vector<std::string> left;
  std::vector<LoraPart> parts = file.placed(parts_in(model), left);
  if (parts.empty()) refuse_all_left(file, model);
  const LoraPart whole = joined(std::move(parts), model);
  warn_of_left(file, left);
  std::map<std::string, const Layer*> layers;
  for (const Layer* layer : model.layers()) layers[layer->name] = layer;
  std::vector<NamedTensor> tensors;
  for (const LoraLayer& layer : whole.layers) {
    for (NamedTensor& tensor : peft_tensors(fitted(layer, layers.at(layer.module)->info(), path))) {
      tensors.push_back(std::move(tensor));
    }
  }
  file.check_length();
  return {.config = peft_config(whole), .tensors = LoraTensors(file, tensors)};
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
  const io::TensorFile file = open_adapter_tensors(folder);
  return std::any_of(file.tensors().begin(), file.tensors().end(), [](const io::TensorBytes& tensor) {
    return tensor.name.starts_with(kModel) && tensor.name.substr(kModel.size()).starts_with(kTextEncoderScope);
  });
}

}  // namespace deltaw

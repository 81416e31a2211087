#include "adapt/lora_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "adapt/adapter_file.h"
#include "adapt/config.h"
#include "adapt/peft_format.h"
#include "adapt/tensor_names.h"
#include "core/json.h"
#include "core/json_fields.h"
#include "core/patterns.h"
#include "core/printable.h"
#include "deltaw/error.h"
#include "models/loader.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

/// The keys of a config that the placed layers say anew.
constexpr const char* kSaidByLayers[] = {"r",
                                         "lora_alpha",
                                         "rank_pattern",
                                         "alpha_pattern",
                                         "use_rslora",
                                         "target_modules",
                                         "exclude_modules",
                                         "layers_to_transform",
                                         "layers_pattern"};

[[noreturn]] void refuse_path(const fs::path& path, const std::string& what, const std::string& fix) {
  throw Error({.id = "config.no-adapter", .what = what, .where = path.string(), .fix = fix});
}

bool has_tensors(const fs::path& path) {
  const std::string ending = path.extension().string();
  return ending == ".safetensors" || ending == ".bin" || ending == ".pt" || ending == ".pth";
}

/// Whether a file of that name has another use.
bool is_of_model(const std::string& name) {
  constexpr const char* kBeginnings[] = {"adapter", "model", "pytorch_model", "diffusion_pytorch_model"};
  return std::any_of(std::begin(kBeginnings), std::end(kBeginnings),
                     [&](const char* beginning) { return name.starts_with(beginning); });
}

/// Whether any of a file's names is a LoRA's.
bool holds_lora(const fs::path& path) {
  const io::TensorFile file = io::open_tensors(path);
  return std::any_of(file.tensors().begin(), file.tensors().end(),
                     [&](const io::TensorBytes& tensor) { return lora_key(tensor.name, path.string()).has_value(); });
}

std::string part_of(const LoraKey& key) {
  return key.part.empty() ? kUnetPart : key.part;
}

/// The value that most layers have.
double commonest(const std::vector<double>& values) {
  std::map<double, int64_t> counts;
  for (const double value : values) ++counts[value];
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? 1 : most->first;
}

/// A factor in the shape that it has on its layer: 1 x 1 convolutions stand as matrices too, and matrices as such
/// convolutions. Another size is left as it is.
Tensor shaped(const Tensor& factor, const std::vector<int64_t>& shape) {
  const at::IntArrayRef wanted(shape);
  const bool points =
      factor.numel() == factor.size(0) * factor.size(1) && factor.numel() == c10::multiply_integers(wanted);
  return points && wanted.slice(0, 2) == factor.sizes().slice(0, 2) ? factor.reshape(shape) : factor;
}

Json number(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? Json(static_cast<int64_t>(value)) : Json(value);
}

}  // namespace

LoraFile::LoraFile(const fs::path& path) : LoraFile(io::open_tensors(path), /*peft_part=*/"") {}

LoraFile::LoraFile(const io::TensorFile& file, const std::string& peft_part)
    : file_(std::make_shared<io::TensorFile>(file)), peft_part_(peft_part) {
  const fs::path& path = file_->path();
  std::map<std::string, size_t> places;
  for (const io::TensorBytes& tensor : file_->tensors()) {
    std::optional<LoraKey> key;
    if (peft_part.empty()) {
      key = lora_key(tensor.name, path.string());
    } else if (tensor.name.starts_with(kModel)) {
      key = lora_key(tensor.name.substr(kModel.size()), path.string());
      if (key && (key->part.empty() || peft_part != kUnetPart)) key->part = peft_part;
    }
    if (!key) {
      others_.push_back(tensor.name);
      continue;
    }
    kohya_ |= key->flat;
    const std::string layer = fmt::format("{}/{}/{}", key->part, key->flat, key->module);
    const size_t place = places.try_emplace(layer, layers_.size()).first->second;
    if (place == layers_.size()) layers_.push_back({.key = *key, .tensors = {}});
    if (const auto [other, added] = layers_[place].tensors.emplace(key->tensor, &tensor); !added) {
      throw Error(
          {.id = "format.conflict",
           .what = fmt::format("'{}' and '{}' are the same tensor of one layer", other->second->name, tensor.name),
           .where = path.string(),
           .fix = "fetch the file again, or save the adapter again"});
    }
  }
  if (!layers_.empty()) return;
  refuse_path(path, "the file holds no LoRA of an image model",
              "give one with names of diffusers or of kohya's scripts, or the folder of an adapter");
}

std::map<std::string, int64_t> LoraFile::parts() const {
  std::map<std::string, int64_t> counts;
  for (const Layer& layer : layers_) ++counts[part_of(layer.key)];
  return counts;
}

std::vector<std::string> LoraFile::modules_of(const std::string& part) const {
  std::vector<std::string> names;
  for (const Layer& layer : layers_) {
    if (part_of(layer.key) == part) names.push_back(layer.key.module);
  }
  return names;
}

Json LoraFile::outline() const {
  const std::map<std::string, int64_t> counts = parts();
  const std::string part = counts.contains(kUnetPart) ? kUnetPart : counts.begin()->first;
  const Json said = config_of(part);
  std::vector<double> ranks, alphas;
  bool magnitudes = false;
  for (const Layer& layer : layers_) {
    const auto A = layer.tensors.find(LoraTensor::A);
    if (part_of(layer.key) != part || A == layer.tensors.end() || A->second->count() == 0) continue;
    const int64_t rank = A->second->shape.empty() ? 1 : A->second->shape[0];
    ranks.push_back(static_cast<double>(rank));
    alphas.push_back(alpha_of(layer, layer.key.module, said, rank));
    magnitudes |= layer.tensors.contains(LoraTensor::magnitude);
  }
  Json config = {{"peft_type", "LORA"}, {"r", number(commonest(ranks))}, {"lora_alpha", number(commonest(alphas))}};
  if (magnitudes) config["use_dora"] = true;
  return config;
}

LoraFile LoraFile::of_peft(const fs::path& folder, const std::string& part) {
  const fs::path where = folder / "adapter_config.json";
  const Json config = without_training(read_json_object(where, "format.bad-adapter"));
  const auto refuse = [&](const std::string& what) {
    throw Error({.id = "config.unsupported",
                 .what = what,
                 .where = where.string(),
                 .fix = "`deltaw export` makes such a file of any adapter"});
  };
  const MethodSpec &spec = choose_method(config, where.string()), &plain = find_method("lora");
  if (spec.peft_type != plain.peft_type || (&spec != &plain && !config.contains("use_dora")))
    refuse(fmt::format("the method is {}, and what is converted is LoRA and DoRA", spec.id));
  const Json start = config.value("init_lora_weights", Json(true));
  if (start.is_string() && start != "gaussian" && start != "eva" && start != "orthogonal")
    refuse(fmt::format("the start \"{}\" changes the base", start.get<std::string>()));
  LoraFile file(io::open_adapter(folder), part);
  file.peft_config_ = config;
  return file;
}

Json LoraFile::config_of(const std::string& part) const {
  if (!peft_config_.is_null()) return peft_config_;
  const auto stored = file_->metadata().find(kLoraMetadata);
  if (stored == file_->metadata().end()) return nullptr;
  const std::string where = fmt::format("{}, {}", path().string(), kLoraMetadata);
  const JsonFields all(parse_json(stored->second, where), where, "format.bad-adapter");
  Json config;
  for (const auto& [key, value] : all.json().items()) {
    if (key.starts_with(part + ".")) config[key.substr(part.size() + 1)] = value;
  }
  return config;
}

/// PEFT's configs are of modules as the model has them.
std::string LoraFile::name_in_config(const Layer& layer, const std::string& module) const {
  return peft_part_.empty() || layer.key.part == peft_part_ ? module : layer.key.part + "." + module;
}

double LoraFile::alpha_of(const Layer& layer, const std::string& module, const Json& config, int64_t rank) const {
  if (!config.is_null()) return peft_alpha(config, name_in_config(layer, module), rank, path().string());
  const auto stored = layer.tensors.find(LoraTensor::alpha);
  if (stored == layer.tensors.end()) return static_cast<double>(rank);
  const io::TensorBytes& bytes = *stored->second;
  const double alpha = bytes.count() == 1 ? ops::host_number(to_tensor(bytes, at::kDouble, file_)) : 0;
  if (std::isfinite(alpha) && alpha != 0) return alpha;
  throw Error(
      {.id = "format.bad-adapter",
       .what = bytes.count() == 1
                   ? fmt::format("'{}' is {}, which scales by nothing", printable(bytes.name), alpha)
                   : fmt::format("'{}' is {} and not one number", printable(bytes.name), io::shape_text(bytes.shape)),
       .where = path().string(),
       .fix = "fetch the file again, or save the adapter again"});
}

LoraLayer LoraFile::read(const Layer& layer, const std::string& module, const Json& config) const {
  const auto find = [&](LoraTensor tensor) {
    const auto found = layer.tensors.find(tensor);
    return found == layer.tensors.end() ? nullptr : found->second;
  };
  const auto whole = [&](const io::TensorBytes* bytes) {
    if (!bytes) return Tensor();
    const Tensor value = to_tensor(*bytes, scalar_type(bytes->dtype), file_);
    refuse_non_finite(printable(bytes->name), value, path());
    return value;
  };
  const auto refuse = [&](const char* id, const std::string& what) {
    throw Error(
        {.id = id, .what = what, .where = path().string(), .fix = "fetch the file again, or save the adapter again"});
  };
  const io::TensorBytes *A = find(LoraTensor::A), *B = find(LoraTensor::B);
  if (!A || !B) {
    refuse("format.missing-tensor",
           fmt::format("'{}' has no {}", printable(layer.tensors.begin()->second->name),
                       A ? "second factor (lora_up or lora_B)" : "first factor (lora_down or lora_A)"));
  }
  for (const io::TensorBytes* factor : {A, B}) {
    const size_t axes = factor->shape.size();
    if ((axes != 2 && axes != 4) || factor->count() == 0) {
      refuse("shape.mismatch", fmt::format("'{}' is {}, and a factor has two axes, of a convolution four",
                                           printable(factor->name), io::shape_text(factor->shape)));
    }
  }
  if (A->shape[0] != B->shape[1] || (B->shape.size() == 4 && B->shape[2] * B->shape[3] != 1)) {
    refuse("shape.mismatch", fmt::format("'{}' is {} and '{}' {}: their ranks differ", printable(A->name),
                                         io::shape_text(A->shape), printable(B->name), io::shape_text(B->shape)));
  }
  LoraLayer read{.module = module, .A = whole(A), .B = whole(B), .bias = whole(find(LoraTensor::bias))};
  read.alpha = alpha_of(layer, module, config, read.rank());
  if (const io::TensorBytes* magnitude = find(LoraTensor::magnitude)) {
    const int64_t rows = B->shape[0];
    const bool of_inputs = rows != 1 && magnitude->shape.size() > 1 && magnitude->shape[0] == 1 &&
                           magnitude->name.ends_with(".dora_scale");
    if (of_inputs) {
      refuse("config.unsupported",
             fmt::format("'{}' is {}: it scales the layer's inputs (LyCORIS without wd_on_out), and what is read are "
                         "scales of its outputs",
                         printable(magnitude->name), io::shape_text(magnitude->shape)));
    }
    if (magnitude->count() != rows) {
      refuse("shape.mismatch", fmt::format("'{}' is {}, and the layer has {} outputs", printable(magnitude->name),
                                           io::shape_text(magnitude->shape), rows));
    }
    read.magnitude = whole(magnitude).reshape({rows});
  }
  return read;
}

LoraPart LoraFile::placed(const LoraModules& modules, std::vector<std::string>& left) const {
  LoraPart part{.part = modules.part()};
  const Json config = config_of(part.part);
  if (config.is_object()) {
    part.more = config;
    for (const char* key : kSaidByLayers) part.more.erase(key);
  }
  std::map<std::string, const Layer*> taken;
  for (const Layer& layer : layers_) {
    std::optional<std::string> module;
    if (part_of(layer.key) == part.part) module = modules.find(layer.key, path().string());
    if (!module) {
      for (const auto& [tensor, bytes] : layer.tensors) left.push_back(bytes->name);
      continue;
    }
    if (const auto [other, added] = taken.emplace(*module, &layer); !added) {
      throw Error(
          {.id = "format.conflict",
           .what = fmt::format("'{}' and '{}' are factors of one layer", other->second->tensors.begin()->second->name,
                               layer.tensors.begin()->second->name),
           .where = path().string(),
           .fix = "fetch the file again, or save the adapter again"});
    }
    part.layers.push_back(read(layer, *module, config));
  }
  left.insert(left.end(), others_.begin(), others_.end());
  return part;
}

std::vector<LoraPart> LoraFile::placed(const std::vector<LoraModules>& parts, std::vector<std::string>& left) const {
  std::vector<LoraPart> found;
  std::map<std::string, size_t> missed;
  std::vector<std::string> all;
  for (const LoraModules& modules : parts) {
    std::vector<std::string> own;
    LoraPart part = placed(modules, own);
    if (!part.layers.empty()) found.push_back(std::move(part));
    for (std::string& name : own) {
      if (++missed[name] == 1) all.push_back(std::move(name));
    }
  }
  for (std::string& name : all) {
    if (missed[name] == parts.size()) left.push_back(std::move(name));
  }
  return found;
}

fs::path find_lora_file(const fs::path& path) {
  std::error_code unseen;
  if (fs::is_regular_file(path, unseen)) {
    const bool in_peft_folder = path.filename().string().starts_with("adapter_model") &&
                                fs::exists(path.parent_path() / "adapter_config.json", unseen);
    return !in_peft_folder && has_tensors(path) && holds_lora(path) ? path : fs::path();
  }
  if (fs::exists(path / "adapter_config.json", unseen)) return {};
  for (const char* name : {kDiffusersLora, "pytorch_lora_weights.bin"}) {
    if (fs::exists(path / name, unseen)) return path / name;
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(path, unseen)) {
    const std::string name = entry.path().filename().string();
    const bool safe = entry.path().extension() == ".safetensors" && entry.is_regular_file(unseen);
    if (safe && !is_of_model(name) && holds_lora(entry.path())) found.push_back(entry.path());
  }
  if (found.empty()) return {};
  std::sort(found.begin(), found.end());
  if (found.size() == 1) return found.front();
  std::vector<std::string> names;
  for (const fs::path& file : found) names.push_back(file.filename().string());
  refuse_path(path, fmt::format("the folder holds {} LoRA files: {}", names.size(), fmt::join(names, ", ")),
              "name one of them: " + found.front().string());
}

LoraLayer fitted(LoraLayer layer, const std::vector<int64_t>& weight, const fs::path& file) {
  const int64_t r = layer.rank();
  std::vector<int64_t> A_shape = weight, B_shape = {weight[0], r};
  A_shape[0] = r;
  B_shape.resize(weight.size(), 1);
  const auto fit = [&](Tensor& factor, const std::vector<int64_t>& shape, const char* which) {
    factor = shaped(factor, shape);
    if (factor.sizes() == at::IntArrayRef(shape)) return;
    throw Error({.id = "shape.mismatch",
                 .what = fmt::format("the {} factor of '{}' is {}, this base makes it {}", which, layer.module,
                                     io::shape_text(factor.sizes().vec()), io::shape_text(shape)),
                 .where = file.string(),
                 .fix = "use the base model that the file was made for"});
  };
  fit(layer.A, A_shape, "first");
  fit(layer.B, B_shape, "second");
  return layer;
}

Json peft_config(const LoraPart& part) {
  Json config = part.more.is_object() ? part.more : Json::object();
  std::vector<double> ranks, alphas;
  bool magnitudes = false, biases = false;
  for (const LoraLayer& layer : part.layers) {
    ranks.push_back(static_cast<double>(layer.rank()));
    alphas.push_back(layer.alpha);
    magnitudes |= layer.magnitude.defined();
    biases |= layer.bias.defined();
  }
  const double rank = commonest(ranks), alpha = commonest(alphas);
  Json targets = Json::array(), rank_pattern = Json::object(), alpha_pattern = Json::object();
  for (const LoraLayer& layer : part.layers) {
    targets.push_back(layer.module);
    if (static_cast<double>(layer.rank()) != rank) rank_pattern[layer.module] = layer.rank();
    if (layer.alpha != alpha) alpha_pattern[layer.module] = number(layer.alpha);
  }
  config["peft_type"] = "LORA";
  config["r"] = number(rank);
  config["lora_alpha"] = number(alpha);
  config["target_modules"] = targets;
  if (!rank_pattern.empty()) config["rank_pattern"] = rank_pattern;
  if (!alpha_pattern.empty()) config["alpha_pattern"] = alpha_pattern;
  if (magnitudes) config["use_dora"] = true;
  if (biases) config["lora_bias"] = true;
  return config;
}

std::vector<NamedTensor> peft_tensors(const LoraLayer& layer) {
  const std::string name = kModel + layer.module + ".";
  std::vector<NamedTensor> tensors = {{name + "lora_A.weight", layer.A}, {name + "lora_B.weight", layer.B}};
  if (layer.bias.defined()) tensors.push_back({name + "lora_B.bias", layer.bias});
  if (layer.magnitude.defined()) {
    tensors.push_back({name + "lora_magnitude_vector", layer.stored_magnitude()});
  }
  return tensors;
}

double peft_alpha(const Json& config, const std::string& module, int64_t rank, const std::string& where) {
  const JsonFields values(config, where, "format.bad-adapter");
  const auto whole = values.get_or<double>("lora_alpha", 8);  // PEFT's default
  const double alpha = pattern_value(config.value("alpha_pattern", Json()), module, whole, {});
  return values.get_or<bool>("use_rslora", false) ? alpha * std::sqrt(static_cast<double>(rank)) : alpha;
}

}  // namespace deltaw

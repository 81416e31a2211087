#include "adapt/mlx.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "adapt/adapter_file.h"
#include "adapt/export_formats.h"
#include "core/files.h"
#include "core/json_fields.h"
#include "deltaw/error.h"
#include "io/decode.h"
#include "io/safetensors.h"
#include "models/loader.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr const char *kWeights = "adapters.safetensors", *kConfig = "adapter_config.json";

/// MLX calls the backbone of every model `model`.
constexpr const char *kOwnBackbone = "model.", *kOtherBackbone = "transformer.";

/// "model.layers.3.self_attn.q_proj.lora_a" -> its module and "lora_a".
std::pair<std::string, std::string> parts_of(const std::string& name) {
  const size_t dot = std::min(name.rfind('.'), name.size());
  return {name.substr(0, dot), dot < name.size() ? name.substr(dot + 1) : ""};
}

/// transformers' name of a module: only GPT-2's blocks are called h, below `transformer`.
std::string module_here(const std::string& name) {
  return name.starts_with("model.h.") ? kOtherBackbone + name.substr(6) : name;
}
std::string module_there(const std::string& name) {
  const std::string other = kOtherBackbone;
  return name.starts_with(other) ? kOwnBackbone + name.substr(other.size()) : name;
}

/// Of the names that MLX has, what PEFT calls the tensor; empty for others.
std::string ending_here(const std::string& ending, bool embedding) {
  if (ending == "lora_a") return embedding ? "lora_embedding_A" : "lora_A.weight";
  if (ending == "lora_b") return embedding ? "lora_embedding_B" : "lora_B.weight";
  return ending == "m" ? "lora_magnitude_vector.weight" : "";
}

/// The file with its tensors under PEFT's names, factors transposed.
class PeftNames final : public io::TensorFile {
 public:
  explicit PeftNames(const io::SafetensorsFile& file) : TensorFile(file.path()) {
    for (const io::TensorBytes& tensor : file.tensors()) {
      const auto [module, ending] = parts_of(tensor.name);
      const std::string name = ending_here(ending, is_embedding(module));
      if (name.empty()) {
        add({.name = tensor.name,
             .dtype = tensor.dtype,
             .shape = tensor.shape,
             .data = tensor.data});  // reading refuses it
      } else {
        add_transposed(tensor, kModel + module_here(module) + "." + name);
      }
    }
    file_ = std::make_shared<io::SafetensorsFile>(file);
  }

 private:
  static bool is_embedding(const std::string& module) {
    return module.ends_with("embed_tokens") || module.ends_with(".wte") || module.ends_with(".wpe");
  }

  void add_transposed(const io::TensorBytes& tensor, const std::string& name) {
    std::vector<float> numbers(static_cast<size_t>(tensor.count()));
    io::decode(tensor, numbers);
    std::vector<int64_t> shape = tensor.shape;
    std::reverse(shape.begin(), shape.end());
    auto* out = reinterpret_cast<float*>(allocate(numbers.size() * sizeof(float)));
    const int64_t rows = shape.size() == 2 ? shape[1] : 1, columns = shape.empty() ? 1 : shape[0];
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) out[column * rows + row] = numbers[row * columns + column];
    }
    add({.name = name, .dtype = io::Dtype::f32, .shape = shape, .data = reinterpret_cast<const std::byte*>(out)});
  }

  std::shared_ptr<const io::SafetensorsFile> file_;  // keeps what was not copied
};

/// The modules that have factors, by transformers' names.
std::set<std::string> modules_of(const io::TensorFile& file) {
  std::set<std::string> modules;
  for (const io::TensorBytes& tensor : file.tensors()) {
    const auto [module, ending] = parts_of(tensor.name);
    if (ending == "lora_a") modules.insert(module_here(module));
  }
  return modules;
}

/// "model.layers.3.self_attn.q_proj" -> "layers", 3 and "self_attn.q_proj"; nothing outside the blocks.
struct InBlock {
  int64_t block = 0;
  std::string key;
};
std::optional<InBlock> in_block(const std::string& module) {
  for (size_t begin = 0; begin < module.size();) {
    const size_t end = std::min(module.find('.', begin), module.size());
    const std::string part = module.substr(begin, end - begin);
    const bool digits = !part.empty() && part.size() < 9 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits && end < module.size()) return InBlock{std::stoll(part), module.substr(end + 1)};
    begin = end + 1;
  }
  return std::nullopt;
}

Tensor filled_up(const Tensor& factor, int64_t rank, int64_t axis) {
  std::vector<int64_t> lacking = factor.sizes().vec();
  lacking[static_cast<size_t>(axis)] = rank - factor.size(axis);
  return at::cat({factor, at::zeros(lacking, factor.options())}, axis);
}

}  // namespace

bool is_mlx(const fs::path& folder) {
  std::error_code unseen;
  return fs::exists(folder / kWeights, unseen) && !fs::exists(folder / "adapter_model.safetensors", unseen);
}

Json mlx_config(const fs::path& folder) {
  const fs::path file = folder / kConfig;
  const JsonFields values(read_json_object(file, "format.bad-adapter"), file.string(), "format.bad-adapter");
  const auto type = values.get_or<std::string>("fine_tune_type", "lora");
  if (type == "full") {
    throw Error({.id = "config.no-adapter",
                 .what = "the folder holds whole weights of MLX (fine_tune_type full), not an adapter",
                 .where = file.string(),
                 .fix = "mlx_lm.fuse makes a model of it, which is given as model_name_or_path"});
  }
  const JsonFields lora = values.object("lora_parameters");
  const auto rank = lora.get<int64_t>("rank");
  const auto scale = lora.get<double>("scale");
  return {{"peft_type", "LORA"},
          {"r", rank},
          {"lora_alpha", scale * static_cast<double>(rank)},
          {"lora_dropout", lora.get_or("dropout", 0.0)},
          {"use_dora", type == "dora"},
          {"target_modules", modules_of(io::SafetensorsFile(folder / kWeights))},
          {"task_type", "CAUSAL_LM"}};
}

io::TensorFile mlx_tensors(const fs::path& folder) {
  return PeftNames(io::SafetensorsFile(folder / kWeights));
}

void write_mlx(const Adapter& lora, const fs::path& folder) {
  refuse_beside(lora, "an adapter of MLX");
  const int64_t blocks = lora.model().shape().layers;
  int64_t rank = 1, first = blocks;
  std::set<std::string> keys;
  for (const AdaptedLayer* layer : lora.layers()) {
    rank = std::max(rank, layer->params.matrix("lora_A").size(0));
    const auto place = in_block(layer->info.name);
    if (!place) refuse_layer(*layer, "an adapter of MLX", "which has layers of the blocks alone");
    first = std::min(first, place->block);
    keys.insert(place->key);
  }
  std::vector<NamedTensor> tensors;
  for (const AdaptedLayer* layer : lora.layers()) {
    const auto [A, B] = scaled_factors(*layer);
    const std::string name = module_there(layer->info.name);
    tensors.push_back({name + ".lora_a", filled_up(A, rank, 0).t().contiguous()});
    tensors.push_back({name + ".lora_b", filled_up(B, rank, 1).t().contiguous()});
  }
  std::vector<io::TensorBytes> bytes;
  for (const NamedTensor& tensor : tensors) bytes.push_back(to_bytes(tensor.name, tensor.value));
  io::write_safetensors(folder / kWeights, bytes, {{"format", "mlx"}});
  write_json(folder / kConfig,
             {{"model", lora.config().base_model_name_or_path},
              {"fine_tune_type", "lora"},
              {"num_layers", blocks - first},
              {"lora_parameters", {{"rank", rank}, {"scale", 1.0}, {"dropout", 0.0}, {"keys", keys}}}});
}

}  // namespace deltaw

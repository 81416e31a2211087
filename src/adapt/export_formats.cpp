#include "adapt/export_formats.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstring>

#include "core/files.h"
#include "deltaw/error.h"
#include "deltaw/family.h"
#include "io/checkpoint.h"
#include "io/gguf_writer.h"
#include "models/gguf.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

constexpr const char *kGgufFile = "adapter.gguf", *kGguf = "a GGUF adapter";

/// A factor as the file has it.
struct GgufFactor {
  std::string name;  // "blk.3.attn_q.weight.lora_a"
  Tensor value;      // float32, contiguous
};

void add_factors(const AdaptedLayer& layer, const Model& model, std::vector<GgufFactor>& factors) {
  const auto place = gguf_place(model, layer.info.name);
  if (!place) refuse_layer(layer, kGguf, "for llama.cpp has no tensor for it");
  const auto [A, B] = scaled_factors(layer);
  const std::string name = place->name + ".weight.lora_";
  if (layer.info.kind == LayerKind::embedding) {  // looked up: rows are of tokens
    if (model.config().value("tie_word_embeddings", false)) {
      refuse_layer(layer, kGguf, "would change the head too, which shares the tensor");
    }
    factors.push_back({name + "a", B});
    factors.push_back({name + "b", A.t().contiguous()});
    return;
  }
  factors.push_back({name + "a", A});
  factors.push_back({name + "b", gguf_rows(B, place->layout, model)});
}

std::vector<GgufFactor> gguf_factors(const Adapter& lora) {
  const Model& model = lora.model();
  if (!model.family() || !model.family()->gguf) {
    throw Error({.id = "config.no-export",
                 .what = "llama.cpp has no such model as far as deltaw knows: model_type " +
                         model.config().value(io::model_type_key(model.config()), std::string("?")),
                 .where = "key \"to\"",
                 .fix = "--to lora writes PEFT's files"});
  }
  refuse_beside(lora, kGguf);
  std::vector<GgufFactor> factors;
  for (const AdaptedLayer* layer : lora.layers()) add_factors(*layer, model, factors);
  return factors;
}

std::string modelfile(const Adapter& lora) {
  return fmt::format("FROM {}\nADAPTER ./{}\n", fs::absolute(lora.model().folder()).lexically_normal().string(),
                     kGgufFile);
}

}  // namespace

std::pair<Tensor, Tensor> scaled_factors(const AdaptedLayer& layer) {
  const Update u = layer.update();
  return {u.right.detach().to(at::kFloat).contiguous(), (u.left.detach().to(at::kFloat) * u.scale).contiguous()};
}

void refuse_layer(const AdaptedLayer& layer, const std::string& what, const std::string& why) {
  throw Error({.id = "config.no-export",
               .what = fmt::format("'{}' cannot go into {}, {}", layer.info.name, what, why),
               .where = "key \"to\"",
               .fix = "`deltaw merge` writes the whole model instead"});
}

void refuse_beside(const Adapter& lora, const std::string& what, bool has_biases) {
  const auto refuse = [&](const std::string& thing) {
    throw Error({.id = "config.no-export",
                 .what = fmt::format("{} holds factors of layers alone, and this one has {}", what, thing),
                 .where = "key \"to\"",
                 .fix = "`deltaw merge` writes the whole model instead"});
  };
  for (const Parameter* parameter : lora.model().parameters()) {
    if (lora.tokens(*parameter)) refuse(fmt::format("trained rows of '{}'", parameter->name));
    if (lora.overrides(*parameter)) refuse(fmt::format("a '{}' of its own", parameter->name));
  }
  if (!lora.model().added_rows().empty()) refuse("a larger vocabulary");
  for (const AdaptedLayer* layer : lora.layers()) {
    if (!has_biases && layer->update().bias.defined()) refuse(fmt::format("a bias for '{}'", layer->info.name));
  }
}

void write_gguf(const Adapter& lora, const fs::path& folder) {
  const std::vector<GgufFactor> factors = gguf_factors(lora);
  // No alpha: the scale stands in B, since every layer has its own rank.
  const std::vector<io::GgufValue> values = {
      {.key = "general.type", .value = "adapter"},
      {.key = "general.architecture", .value = lora.model().family()->gguf->architecture},
      {.key = "general.file_type", .type = io::GgufType::u32, .value = 0},
      {.key = "adapter.type", .value = "lora"},
      {.key = "adapter.lora.alpha", .type = io::GgufType::f32, .value = 0.0}};
  std::vector<io::GgufTensor> tensors;
  for (const GgufFactor& factor : factors) {
    tensors.push_back({.name = factor.name,
                       .shape = factor.value.sizes().vec(),
                       .stored = static_cast<const std::byte*>(factor.value.const_data_ptr())});
  }
  io::write_gguf(folder / kGgufFile, values, tensors);
  write_file(folder / "Modelfile", modelfile(lora));
}

std::string gguf_problem(const Adapter& lora, const fs::path& folder) {
  const io::GgufFile file(folder / kGgufFile);
  const std::vector<GgufFactor> factors = gguf_factors(lora);
  if (file.tensors().size() != factors.size()) {
    return fmt::format("{} tensors are there in place of {}", file.tensors().size(), factors.size());
  }
  for (const GgufFactor& factor : factors) {
    const io::TensorBytes* stored = file.find(factor.name);
    if (!stored || at::IntArrayRef(stored->shape) != factor.value.sizes() ||
        std::memcmp(stored->data, factor.value.const_data_ptr(), stored->size()) != 0) {
      return factor.name + " is not what it was to be";
    }
  }
  return "";
}

}  // namespace deltaw

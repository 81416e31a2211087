// A model family that the library does not have, described in another program through the public headers alone.
//   custom_family CHECKPOINT OUTPUT
//
// InternLM (InternLM Team 2023): Llama with biases in its attention layers, unless config.json has `bias` false. Its
// modules and tensors have Llama's names, so that it is loaded as Llama is, and adapted on the same layers.
#include <deltaw/adapter.h>
#include <deltaw/error.h>
#include <deltaw/family.h>
#include <deltaw/model.h>

#include <filesystem>
#include <iostream>
#include <string>

namespace {

// config.json in Llama's keys.
deltaw::Json as_llama(deltaw::Json config) {
  config["attention_bias"] = config.value("bias", true);
  return config;
}

const deltaw::FamilySpec& family_internlm() {
  static const deltaw::FamilySpec spec = [] {
    deltaw::FamilySpec family = *deltaw::find_family("llama");
    family.model_type = "internlm";
    family.heads = deltaw::decoder_heads("InternLM");
    family.settled = as_llama;
    return family;
  }();
  return spec;
}

void run(const std::string& checkpoint, const std::filesystem::path& output) {
  deltaw::register_family(family_internlm());
  const auto model = deltaw::load_model(checkpoint, {.dtype = "float32"});

  deltaw::AdapterConfig config;  // LoRA, on the layers that the family says
  deltaw::Adapter adapter = deltaw::Adapter::create(*model, config, /*seed=*/42);
  for (const deltaw::AdaptedLayer* layer : adapter.layers()) std::cout << "adapted " << layer->info.name << '\n';

  const at::Tensor ids = at::arange(3, 9, at::kLong).unsqueeze(0);
  deltaw::Call call{.adapter = &adapter};
  const at::Tensor logits = model->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)}, call);
  std::cout << model->architecture() << ": logits " << logits.sizes() << '\n';

  std::filesystem::create_directories(output);
  adapter.save(output);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: custom_family CHECKPOINT OUTPUT\n";
    return 2;
  }
  try {
    run(argv[1], argv[2]);
    return 0;
  } catch (const deltaw::Error& error) {
    std::cerr << error.what() << '\n';
    return error.exit_code();
  }
}

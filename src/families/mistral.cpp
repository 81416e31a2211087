// Mistral: Jiang et al. 2023, arXiv:2310.06825. Llama with grouped heads and a window over all layers. Names as
// transformers' MistralForCausalLM.
#include "models/decoder_gguf.h"

namespace deltaw {
namespace {

DecoderConfig read(const ConfigValues& values) {
  DecoderConfig config =
      DecoderConfig::from_json(values, {.max_position_embeddings = 131072, .num_key_value_heads = 8});
  const bool silent = !values.json().contains("sliding_window");
  config.set_windows(values, silent ? 4096 : values.size_or("sliding_window", 0), [](int64_t) { return true; });
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  return std::make_unique<Decoder>(input, read(config_of(input)));
}

const GgufForm& gguf() {
  static const GgufForm form = decoder_gguf({.architecture = "llama",
                                             .read = read,
                                             .modules = kTurnedPairs,
                                             .describe = describe_turned_pairs,
                                             .factors = GgufFactors::any});
  return form;
}

}  // namespace

const FamilySpec& family_mistral() {
  static const FamilySpec spec = decoder_family({
      .model_type = "mistral",
      .heads = decoder_heads("Mistral"),
      .lora_target_modules = {"q_proj", "v_proj"},
      .ia3_target_modules = {"k_proj", "v_proj", "down_proj"},
      .load = load,
      .gguf = &gguf(),
  });
  return spec;
}

}  // namespace deltaw

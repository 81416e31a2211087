// Qwen2 and Qwen2.5: Yang et al. 2024, arXiv:2407.10671. Llama with biases on queries, keys and values, and a window in
// the upper layers where it is switched on. Names as transformers' Qwen2ForCausalLM.
#include "models/decoder_gguf.h"

namespace deltaw {
namespace {

DecoderConfig read(const ConfigValues& values) {
  DecoderConfig config = DecoderConfig::from_json(values, {.max_position_embeddings = 32768});
  config.qkv_bias = true;
  config.set_upper_windows(values);
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  return std::make_unique<Decoder>(input, read(config_of(input)));
}

const GgufForm& gguf() {
  static const GgufForm form =
      decoder_gguf({.architecture = "qwen2",
                    .read = read,
                    .describe = [](const DecoderConfig& config, const ConfigValues&, GgufFacts& facts) {
                      need_usual_heads(config, facts);
                      lose_windows(config, facts);
                    }});
  return form;
}

}  // namespace

const FamilySpec& family_qwen2() {
  static const FamilySpec spec = decoder_family({
      .model_type = "qwen2",
      .heads = decoder_heads("Qwen2"),
      .lora_target_modules = {"q_proj", "v_proj"},
      .ia3_target_modules = {"q_proj", "v_proj", "down_proj"},
      .load = load,
      .gguf = &gguf(),
  });
  return spec;
}

}  // namespace deltaw

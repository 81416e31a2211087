// Qwen3: Yang et al. 2025, arXiv:2505.09388. Qwen2 without its biases, each head's queries and keys normalised. Names
// as transformers' Qwen3ForCausalLM.
#include "models/decoder_gguf.h"

namespace deltaw {
namespace {

DecoderConfig read(const ConfigValues& values) {
  DecoderConfig config = DecoderConfig::from_json(values, {.max_position_embeddings = 32768, .head_dim = 128});
  config.qkv_bias = config.o_bias = values.get_or("attention_bias", false);
  config.qk_norms = true;
  config.set_upper_windows(values);
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  return std::make_unique<Decoder>(input, read(config_of(input)));
}

const GgufForm& gguf() {
  static const GgufForm form =
      decoder_gguf({.architecture = "qwen3",
                    .read = read,
                    .settle = [](Json& config,
                                 const GgufFacts& facts) { config["attention_bias"] = facts.has("blk.0.attn_q.bias"); },
                    .describe =
                        [](const DecoderConfig& config, const ConfigValues&, GgufFacts& facts) {
                          need_no_biases(config, facts);
                          lose_windows(config, facts);
                        }});
  return form;
}

}  // namespace

const FamilySpec& family_qwen3() {
  static const FamilySpec spec = decoder_family({
      .model_type = "qwen3",
      .heads = decoder_heads("Qwen3"),
      .lora_target_modules = {"q_proj", "v_proj"},
      .ia3_target_modules = {"q_proj", "v_proj", "down_proj"},
      .load = load,
      .gguf = &gguf(),
  });
  return spec;
}

}  // namespace deltaw

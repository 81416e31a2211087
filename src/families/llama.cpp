// Llama 1 to 3.2: Touvron et al. 2023, arXiv:2302.13971. Names as transformers' LlamaForCausalLM.
#include "models/decoder_gguf.h"

namespace deltaw {
namespace {

DecoderConfig read(const ConfigValues& values) {
  DecoderConfig config = DecoderConfig::from_json(values, {});
  config.qkv_bias = config.o_bias = values.get_or("attention_bias", false);
  config.mlp_bias = values.get_or("mlp_bias", false);
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  return std::make_unique<Decoder>(input, read(config_of(input)));
}

const GgufForm& gguf() {
  static const GgufForm form = decoder_gguf({.architecture = "llama",
                                             .read = read,
                                             .modules = kTurnedPairs,
                                             .settle =
                                                 [](Json& config, const GgufFacts& facts) {
                                                   const Json turned =
                                                       facts.values.value("rope.dimension_count", Json());
                                                   if (!config.contains("head_dim") && !turned.is_null())
                                                     config["head_dim"] = turned;  // heads turn whole
                                                   config["attention_bias"] = facts.has("blk.0.attn_q.bias");
                                                   config["mlp_bias"] = facts.has("blk.0.ffn_gate.bias");
                                                 },
                                             .describe = describe_turned_pairs,
                                             .factors = GgufFactors::any});
  return form;
}

}  // namespace

const FamilySpec& family_llama() {
  static const FamilySpec spec = decoder_family({
      .model_type = "llama",
      .heads = decoder_heads("Llama"),
      .lora_target_modules = {"q_proj", "v_proj"},
      .ia3_target_modules = {"k_proj", "v_proj", "down_proj"},
      .load = load,
      .gguf = &gguf(),
  });
  return spec;
}

}  // namespace deltaw

// Phi-3: Abdin et al. 2024, arXiv:2404.14219. Llama with fused qkv_proj and gate_up_proj, LongRoPE and dropout behind
// the sublayers. Names as transformers' Phi3ForCausalLM.
#include "models/decoder.h"

namespace deltaw {
namespace {

// The names that earlier releases had for longrope, and the length that it stretches where config.json is silent.
Json settled(Json config) {
  Json& length = config["original_max_position_embeddings"];
  if (length.is_null()) length = 4096;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto rope = config.find(key);
    if (rope == config.end() || !rope->is_object()) continue;
    for (const char* name : {"type", "rope_type"}) {
      const auto type = rope->find(name);
      if (type != rope->end() && (*type == "su" || *type == "yarn")) *type = "longrope";
    }
  }
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  DecoderConfig config = DecoderConfig::from_json(
      values, {.max_position_embeddings = 4096, .rms_norm_eps = 1e-5, .pad_token_id = 32000, .partial_rotary = true});
  config.fused = true;
  config.resid_pdrop = values.dropout_or("resid_pdrop", 0.0);
  config.set_windows(values, values.size_or("sliding_window", 0), [](int64_t) { return true; });
  return std::make_unique<Decoder>(input, std::move(config));
}

const GgufForm& gguf() {
  static const GgufForm form = decoder_gguf(
      "phi3", {{"blk.{}.ffn_up", "model.layers.{}.mlp.gate_up_proj"}}, [](Json& config, const GgufFacts& facts) {
        config["original_max_position_embeddings"] =
            facts.values.value("rope.scaling.original_context_length", config.value("max_position_embeddings", Json()));
      });
  return form;
}

}  // namespace

const FamilySpec& family_phi3() {
  static const FamilySpec spec = decoder_family({
      .model_type = "phi3",
      .heads = decoder_heads("Phi3"),
      .load = load,
      .gguf = &gguf(),
      .settled = settled,
  });
  return spec;
}

}  // namespace deltaw

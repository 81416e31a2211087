// Phi-3: Abdin et al. 2024, arXiv:2404.14219. Llama with fused qkv_proj and gate_up_proj, LongRoPE and dropout behind
// the sublayers. Names as transformers' Phi3ForCausalLM.
#include "models/decoder_gguf.h"

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

DecoderConfig read(const ConfigValues& values) {
  DecoderConfig config = DecoderConfig::from_json(
      values, {.max_position_embeddings = 4096, .rms_norm_eps = 1e-5, .pad_token_id = 32000, .partial_rotary = true});
  config.fused = true;
  config.resid_pdrop = values.dropout_or("resid_pdrop", 0.0);
  config.set_windows(values, values.size_or("sliding_window", 0), [](int64_t) { return true; });
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  return std::make_unique<Decoder>(input, read(config_of(input)));
}

const GgufForm& gguf() {
  static const GgufForm form =
      decoder_gguf({.architecture = "phi3",
                    .read = read,
                    .modules = {{"blk.{}.ffn_up", "model.layers.{}.mlp.gate_up_proj"}},
                    .settle =
                        [](Json& config, const GgufFacts& facts) {
                          config["original_max_position_embeddings"] = facts.values.value(
                              "rope.scaling.original_context_length", config.value("max_position_embeddings", Json()));
                        },
                    .describe =
                        [](const DecoderConfig& config, const ConfigValues& values, GgufFacts& facts) {
                          need_usual_heads(config, facts);
                          facts.values["rope.dimension_count"] = config.rotary->width();
                          facts.values["rope.scaling.original_context_length"] =
                              values.size("original_max_position_embeddings");
                          facts.values["attention.sliding_window"] = config.window;
                          lose_windows(config, facts);
                        },
                    .factors = GgufFactors::longrope});
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

// Phi-3: Abdin et al. 2024, arXiv:2404.14219. Llama with fused qkv_proj and gate_up_proj, LongRoPE and dropout behind
// the sublayers. Names as transformers' Phi3ForCausalLM.
#include "models/decoder.h"

namespace deltaw {
namespace {

// The names that earlier releases had for longrope, and the length that it stretches where config.json is silent.
ConfigValues settled(const ConfigValues& values) {
  Json json = values.json();
  if (!values.has("original_max_position_embeddings")) json["original_max_position_embeddings"] = 4096;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!values.has(key) || !json[key].is_object()) continue;
    for (const char* name : {"type", "rope_type"}) {
      if (json[key].contains(name) && (json[key][name] == "su" || json[key][name] == "yarn")) {
        json[key][name] = "longrope";
      }
    }
  }
  return {std::move(json), values.where()};
}

}  // namespace

std::unique_ptr<Model> load_phi3(const FamilyInput& input) {
  const ConfigValues values = settled(config_of(input));
  DecoderConfig config = DecoderConfig::from_json(
      values, {.max_position_embeddings = 4096, .rms_norm_eps = 1e-5, .pad_token_id = 32000, .partial_rotary = true});
  config.fused = true;
  config.resid_pdrop = values.dropout_or("resid_pdrop", 0.0);
  config.set_windows(values, values.size_or("sliding_window", 0), [](int64_t) { return true; });
  return std::make_unique<Decoder>(input, std::move(config), "Phi3ForCausalLM");
}

}  // namespace deltaw

// Qwen3: Yang et al. 2025, arXiv:2505.09388. Qwen2 without its biases, each head's queries and keys normalised. Names
// as transformers' Qwen3ForCausalLM.
#include "models/decoder.h"

namespace deltaw {

std::unique_ptr<Model> load_qwen3(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  DecoderConfig config = DecoderConfig::from_json(values, {.max_position_embeddings = 32768, .head_dim = 128});
  config.qkv_bias = config.o_bias = values.get_or("attention_bias", false);
  config.qk_norms = true;
  config.set_upper_windows(values);
  return std::make_unique<Decoder>(input, std::move(config), "Qwen3ForCausalLM");
}

}  // namespace deltaw

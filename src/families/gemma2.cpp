// Gemma 2: Gemma Team 2024, arXiv:2408.00118. Llama with norms before and behind each sublayer, a window in every other
// layer, and capped scores. Names as transformers' Gemma2ForCausalLM.
#include <cmath>

#include "models/decoder.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  const auto where_silent = [&](const char* key, double usual) {  // null switches it off
    return values.not_negative_or(key, values.json().contains(key) ? 0.0 : usual);
  };
  DecoderConfig config = DecoderConfig::from_json(values, {.max_position_embeddings = 8192,
                                                           .num_key_value_heads = 4,
                                                           .head_dim = 256,
                                                           .tie_word_embeddings = true,
                                                           .pad_token_id = 0});
  config.hidden_act = values.get_or<std::string>("hidden_activation", "gelu_pytorch_tanh");
  config.qkv_bias = config.o_bias = values.get_or("attention_bias", false);
  config.norms_behind = true;
  config.norm_offset = 1;
  config.scaled_embeddings = true;
  config.attention_scale = 1 / std::sqrt(values.positive_or("query_pre_attn_scalar", 256.0));
  config.attention_softcap = where_silent("attn_logit_softcapping", 50);
  config.final_softcap = where_silent("final_logit_softcapping", 30);
  values.accept_only("use_bidirectional_attention", false);
  const bool silent = !values.json().contains("sliding_window");
  config.set_windows(values, silent ? 4096 : values.size_or("sliding_window", 0), [](int64_t i) { return i % 2 == 0; });
  return std::make_unique<Decoder>(input, std::move(config));
}

}  // namespace

const FamilySpec& family_gemma2() {
  static const FamilySpec spec = decoder_family({
      .model_type = "gemma2",
      .architecture = "Gemma2ForCausalLM",
      .lora_target_modules = {"q_proj", "v_proj"},
      .ia3_target_modules = {"q_proj", "v_proj", "down_proj"},
      .load = load,
  });
  return spec;
}

}  // namespace deltaw

// Gemma 2: Gemma Team 2024, arXiv:2408.00118. Llama with norms before and behind each sublayer, a window in every other
// layer, and capped scores. Names as transformers' Gemma2ForCausalLM.
#include <cmath>

#include "core/json_fields.h"
#include "models/decoder_gguf.h"

namespace deltaw {
namespace {

DecoderConfig read(const ConfigValues& values) {
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
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  return std::make_unique<Decoder>(input, read(config_of(input)));
}

/// Files have no query_pre_attn_scalar: it is a head's width, but for the largest release.
void settle(Json& config, const GgufFacts& facts) {
  constexpr int64_t kLayersOfLargest = 46;
  const auto number = [&](const char* key) { return json_as<int64_t>(config.value(key, Json())).value_or(0); };
  const int64_t heads = number("num_attention_heads");
  const bool largest = number("num_hidden_layers") == kLayersOfLargest && heads > 0;
  config["query_pre_attn_scalar"] = largest ? number("hidden_size") / heads : number("head_dim");
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (facts.values.contains(key)) config[key] = facts.values[key];
  }
  config["attention_bias"] = facts.has("blk.0.attn_q.bias");
  const auto pattern = json_as<int64_t>(facts.values.value("attention.sliding_window_pattern", Json()));
  if (!pattern || *pattern < 1 || *pattern == 2) return;  // as a config.json without layer_types
  for (int64_t i = 0; i < number("num_hidden_layers"); ++i) {
    config["layer_types"].push_back(i % *pattern < *pattern - 1 ? "sliding_attention" : "full_attention");
  }
}

/// How many layers pass from one without a window to the next; 1 where none has one.
int64_t pattern_of(const DecoderConfig& config, const GgufFacts& facts) {
  const std::vector<bool>& windowed = config.windowed;
  for (int64_t pattern = 1; pattern <= config.num_hidden_layers + 1; ++pattern) {
    bool fits = true;
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) fits = fits && windowed[i] == (i % pattern < pattern - 1);
    if (fits) return pattern;
  }
  refuse_in_gguf(facts, "layer_types", "which layers have a window follows no pattern");
}

/// llama.cpp takes the scale of attention from the shape, as `settle` does, and always caps.
void describe(const DecoderConfig& config, const ConfigValues&, GgufFacts& facts) {
  Json expected = {{"num_attention_heads", config.num_attention_heads},
                   {"num_hidden_layers", config.num_hidden_layers},
                   {"hidden_size", config.hidden_size},
                   {"head_dim", config.head_dim}};
  settle(expected, facts);
  const double scale = 1 / std::sqrt(expected["query_pre_attn_scalar"].get<double>());
  if (std::abs(config.attention_scale - scale) > 1e-6 * scale) {
    refuse_in_gguf(facts, "query_pre_attn_scalar", "llama.cpp takes " + expected["query_pre_attn_scalar"].dump());
  }
  if (config.attention_softcap == 0 || config.final_softcap == 0) {
    refuse_in_gguf(facts, config.attention_softcap == 0 ? "attn_logit_softcapping" : "final_logit_softcapping",
                   "llama.cpp always caps");
  }
  need_no_biases(config, facts);
  facts.values["attn_logit_softcapping"] = config.attention_softcap;
  facts.values["final_logit_softcapping"] = config.final_softcap;
  if (config.window > 0) facts.values["attention.sliding_window"] = config.window;
  const int64_t pattern = pattern_of(config, facts), usual = 2;
  if (pattern != usual) facts.values["attention.sliding_window_pattern"] = pattern;
  if (facts.values["rope.freq_base"] == 10000) facts.values.erase("rope.freq_base");  // as the converter leaves it
}

const GgufForm& gguf() {
  static const GgufForm form = decoder_gguf(
      {.architecture = "gemma2",
       .read = read,
       .modules = {{"output_norm", "model.norm", GgufLayout::plus_one},
                   {"blk.{}.attn_norm", "model.layers.{}.input_layernorm", GgufLayout::plus_one},
                   {"blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm", GgufLayout::plus_one},
                   {"blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm", GgufLayout::plus_one},
                   {"blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm", GgufLayout::plus_one}},
       .settle = settle,
       .describe = describe,
       .activations = {"gelu_pytorch_tanh", "gelu_new"},
       .own_head = false});
  return form;
}

}  // namespace

const FamilySpec& family_gemma2() {
  static const FamilySpec spec = decoder_family({
      .model_type = "gemma2",
      .heads = decoder_heads("Gemma2"),
      .lora_target_modules = {"q_proj", "v_proj"},
      .ia3_target_modules = {"q_proj", "v_proj", "down_proj"},
      .load = load,
      .gguf = &gguf(),
  });
  return spec;
}

}  // namespace deltaw

#include "models/decoder.h"

#include <fmt/format.h>

#include <cmath>

#include "models/causal.h"

namespace deltaw {

DecoderConfig DecoderConfig::from_json(const ConfigValues& values, const DecoderDefaults& defaults) {
  DecoderConfig c;
  c.vocab_size = values.size("vocab_size");
  c.hidden_size = values.size("hidden_size");
  c.intermediate_size = values.size("intermediate_size");
  c.num_hidden_layers = values.layers("num_hidden_layers");
  c.num_attention_heads = values.size("num_attention_heads");
  const auto where_silent = [&](const char* key, int64_t usual, int64_t otherwise) {
    const bool silent = !values.json().contains(key);  // null is an answer
    return values.size_or(key, silent && usual > 0 ? usual : otherwise);
  };
  c.num_key_value_heads = where_silent("num_key_value_heads", defaults.num_key_value_heads, c.num_attention_heads);
  c.head_dim = where_silent("head_dim", defaults.head_dim, c.hidden_size / c.num_attention_heads);
  c.max_position_embeddings = values.size_or("max_position_embeddings", defaults.max_position_embeddings);
  c.rms_norm_eps = values.not_negative_or("rms_norm_eps", defaults.rms_norm_eps);
  c.tie_word_embeddings = values.get_or("tie_word_embeddings", defaults.tie_word_embeddings);
  c.padding_idx = values.padding_row(c.vocab_size, defaults.pad_token_id);
  c.hidden_act = values.get_or<std::string>("hidden_act", c.hidden_act);
  c.attention_dropout = values.dropout_or("attention_dropout", 0.0);
  c.initializer_range = values.not_negative_or("initializer_range", c.initializer_range);
  Rotary::check_head_width(values, values.has("head_dim") ? "head_dim" : "hidden_size", c.head_dim);
  if (!values.has("head_dim") && c.head_dim * c.num_attention_heads != c.hidden_size && defaults.head_dim <= 0) {
    values.refuse("num_attention_heads", fmt::format("a divisor of hidden_size {}, or head_dim", c.hidden_size));
  }
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    values.refuse("num_key_value_heads", fmt::format("a divisor of num_attention_heads {}", c.num_attention_heads));
  }
  c.token_dropout = deltaw::token_dropout(values);
  c.token_classification_bias = values.get_or("token_classification_bias", c.token_classification_bias);
  values.accept_only("is_decoder", true);
  values.accept_only("add_cross_attention", false);
  c.rotary.emplace(values, c.head_dim, c.max_position_embeddings, defaults.partial_rotary);
  return c;
}

void DecoderConfig::set_windows(const ConfigValues& values, int64_t width, const std::function<bool(int64_t)>& usual) {
  window = width;
  windowed.assign(num_hidden_layers, false);
  const bool listed = values.has("layer_types");
  const Json types = listed ? values.json()["layer_types"] : Json();
  const char* kinds = "for each layer full_attention or, with a sliding_window, sliding_attention";
  if (listed && (!types.is_array() || static_cast<int64_t>(types.size()) != num_hidden_layers)) {
    values.refuse("layer_types", kinds);
  }
  for (int64_t i = 0; i < num_hidden_layers; ++i) {
    if (!listed) {
      windowed[i] = window > 0 && usual(i);
      continue;
    }
    windowed[i] = types[i] == "sliding_attention";
    if ((!windowed[i] && types[i] != "full_attention") || (windowed[i] && window <= 0)) {
      values.refuse("layer_types", kinds);
    }
  }
}

void DecoderConfig::set_upper_windows(const ConfigValues& values) {
  const bool silent = !values.json().contains("sliding_window");
  const int64_t width = silent ? 4096 : values.size_or("sliding_window", 0);
  const auto first = values.get_or<int64_t>("max_window_layers", 28);
  set_windows(values, values.get_or("use_sliding_window", false) ? width : 0, [&](int64_t i) { return i >= first; });
}

FamilySpec decoder_family(FamilySpec own) {
  own.is_decoder = true;
  own.word_embeddings = "model.embed_tokens";
  own.ia3_feedforward_modules = {"down_proj"};
  own.sublayer_outputs = {"o_proj", "down_proj"};
  own.feedforward_outputs = {"down_proj"};
  return own;
}

namespace {

Block load_block(Loader& load, const DecoderConfig& c, const ops::Activation& activation, int64_t index) {
  const std::string block = fmt::format("model.layers.{}.", index), attention = block + "self_attn.",
                    mlp = block + "mlp.";
  const int64_t d = c.hidden_size, inner = c.intermediate_size;
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const auto linear = [&](const std::string& name, int64_t d_out, int64_t d_in, bool bias) {
    return load.linear(name, d_out, d_in, {.bias = bias});
  };
  const auto norm = [&](const std::string& name, int64_t width) {
    return load.rms_norm(name, width, c.rms_norm_eps, c.norm_offset);
  };
  Block b{.attention = {.heads = c.num_attention_heads,
                        .key_heads = c.num_key_value_heads,
                        .width = c.head_dim,
                        .form = {.scale = c.attention_scale,
                                 .softcap = c.attention_softcap,
                                 .dropout = c.attention_dropout},
                        .window = !c.windowed.empty() && c.windowed[index] ? c.window : 0,
                        .output = {.dropout = c.resid_pdrop}},
          .feed_forward = {.gated = true, .activation = activation, .output = {.dropout = c.resid_pdrop}},
          .norms_first = true};
  Attention& mixes = b.attention;
  FeedForward& feeds = b.feed_forward;
  if (c.fused) {  // in the order of transformers' class, as all of the model's layers are
    mixes.output.layer = linear(attention + "o_proj", d, q, c.o_bias);
    mixes.qkv = {linear(attention + "qkv_proj", q + 2 * kv, d, c.qkv_bias)};
    feeds.inner = {linear(mlp + "gate_up_proj", 2 * inner, d, c.mlp_bias)};
  } else {
    mixes.qkv = {linear(attention + "q_proj", q, d, c.qkv_bias), linear(attention + "k_proj", kv, d, c.qkv_bias),
                 linear(attention + "v_proj", kv, d, c.qkv_bias)};
    mixes.output.layer = linear(attention + "o_proj", d, q, c.o_bias);
    if (c.qk_norms) mixes.query_norm = norm(attention + "q_norm", c.head_dim);
    if (c.qk_norms) mixes.key_norm = norm(attention + "k_norm", c.head_dim);
    feeds.inner = {linear(mlp + "gate_proj", inner, d, c.mlp_bias), linear(mlp + "up_proj", inner, d, c.mlp_bias)};
  }
  feeds.output.layer = linear(mlp + "down_proj", d, inner, c.mlp_bias);
  b.attention_norm = norm(block + "input_layernorm", d);
  const Norm* after = norm(block + "post_attention_layernorm", d);
  mixes.output.norm = c.norms_behind ? after : nullptr;
  b.feed_forward_norm = c.norms_behind ? norm(block + "pre_feedforward_layernorm", d) : after;
  if (c.norms_behind) feeds.output.norm = norm(block + "post_feedforward_layernorm", d);
  return b;
}

}  // namespace

Decoder::Decoder(const FamilyInput& input, const DecoderConfig& c) {
  const ops::Activation activation(c.hidden_act);
  Loader load(*this, input, "model");
  const HeadForm head{.vocab_size = c.vocab_size,
                      .tied = c.tie_word_embeddings,
                      .softcap = c.final_softcap,
                      .initializer_range = c.initializer_range,
                      .token_dropout = c.token_dropout,
                      .token_bias = c.token_classification_bias};
  decoder_ = {.words = load_words(load, head, c.hidden_size, c.padding_idx),
              .embedding_scale = c.scaled_embeddings ? std::sqrt(static_cast<double>(c.hidden_size)) : 1,
              .rotary = c.rotary,
              .window = c.window};
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) decoder_.blocks.push_back(load_block(load, c, activation, i));
  decoder_.norm = load.rms_norm("model.norm", c.hidden_size, c.rms_norm_eps, c.norm_offset);
  load_head(load, head);
  load.finish({}, {".rotary_emb.inv_freq"});
  settle(c.max_position_embeddings);
}

}  // namespace deltaw

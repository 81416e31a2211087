#include "models/decoder.h"

#include <fmt/format.h>

#include <cmath>

#include "ops/checkpoint.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

const std::string kLmHead = "lm_head";

}  // namespace

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

Decoder::Decoder(const FamilyInput& input, DecoderConfig config)
    : config_(std::move(config)), activation_(config_.hidden_act) {
  const DecoderConfig& c = config_;
  Loader load(*this, input, "model");
  const std::string &words = load.family().word_embeddings, &head = load.head_spec().module;
  word_ = c.tie_word_embeddings ? load.tied_embedding(words, kLmHead, c.vocab_size, c.hidden_size, c.padding_idx)
                                : load.word_embedding(words, c.vocab_size, c.hidden_size, c.padding_idx);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) load_block(load, i);
  norm_ = load.rms_norm("model.norm", c.hidden_size, c.rms_norm_eps, c.norm_offset);
  if (load.head_spec().has_labels()) {
    reads_tokens_ = load.head_spec().task_type != "SEQ_CLS";
    score_ =
        load.head(head, num_labels(), c.hidden_size, c.initializer_range, reads_tokens_ && c.token_classification_bias);
  } else if (c.tie_word_embeddings) {
    lm_head_ = load.tied_head(head, *word_);
  } else {
    lm_head_ = load.word_head(head, c.vocab_size, c.hidden_size);
  }
  load.finish({}, {".rotary_emb.inv_freq"});

  vocab_size_ = word_->weight.value.size(0);
  max_positions_ = c.max_position_embeddings;
  shape_ = {.layers = c.num_hidden_layers,
            .hidden = c.hidden_size,
            .heads = c.num_attention_heads,
            .prefix_heads = c.num_key_value_heads,
            .prefix_width = c.num_key_value_heads * c.head_dim,
            .word_embeddings = word_->weight.value};
}

void Decoder::load_block(Loader& load, int64_t index) {
  const DecoderConfig& c = config_;
  const std::string block = fmt::format("model.layers.{}.", index), attention = block + "self_attn.",
                    mlp = block + "mlp.";
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const auto norm = [&](const std::string& name, int64_t width) {
    return load.rms_norm(name, width, c.rms_norm_eps, c.norm_offset);
  };
  Block b;
  if (c.fused) {
    b.o = load.linear(attention + "o_proj", c.hidden_size, q, {.bias = c.o_bias});
    b.qkv = {load.linear(attention + "qkv_proj", q + 2 * kv, c.hidden_size, {.bias = c.qkv_bias})};
    b.gate_up = {load.linear(mlp + "gate_up_proj", 2 * c.intermediate_size, c.hidden_size, {.bias = c.mlp_bias})};
  } else {
    b.qkv = {load.linear(attention + "q_proj", q, c.hidden_size, {.bias = c.qkv_bias}),
             load.linear(attention + "k_proj", kv, c.hidden_size, {.bias = c.qkv_bias}),
             load.linear(attention + "v_proj", kv, c.hidden_size, {.bias = c.qkv_bias})};
    b.o = load.linear(attention + "o_proj", c.hidden_size, q, {.bias = c.o_bias});
    if (c.qk_norms) b.q_norm = norm(attention + "q_norm", c.head_dim);
    if (c.qk_norms) b.k_norm = norm(attention + "k_norm", c.head_dim);
    b.gate_up = {load.linear(mlp + "gate_proj", c.intermediate_size, c.hidden_size, {.bias = c.mlp_bias}),
                 load.linear(mlp + "up_proj", c.intermediate_size, c.hidden_size, {.bias = c.mlp_bias})};
  }
  b.down = load.linear(mlp + "down_proj", c.hidden_size, c.intermediate_size, {.bias = c.mlp_bias});
  b.before_attention = norm(block + "input_layernorm", c.hidden_size);
  const Norm* after = norm(block + "post_attention_layernorm", c.hidden_size);
  if (c.norms_behind) {
    b.behind_attention = after;
    b.before_mlp = norm(block + "pre_feedforward_layernorm", c.hidden_size);
    b.behind_mlp = norm(block + "post_feedforward_layernorm", c.hidden_size);
  } else {
    b.before_mlp = after;
  }
  blocks_.push_back(std::move(b));
}

Tensor Decoder::embed(const ModelInput& input, const CausalPass& pass, const Call& call) const {
  Tensor words = ops::embedding(input.input_ids, *word_, call);
  if (config_.scaled_embeddings) {  // by a number of the model's type, as transformers does
    const double factor = std::sqrt(static_cast<double>(config_.hidden_size));
    words = words * at::scalar_tensor(factor, at::kFloat).to(words.scalar_type());
  }
  if (!pass.prompt.defined()) return words;
  return at::cat({pass.prompt.to(words.scalar_type()).expand({words.size(0), -1, -1}), words}, 1);
}

Tensor Decoder::attend(const Tensor& x, int64_t index, const Tensor& prefix, const CausalPass& pass,
                       const Rotary::Turn& turn, Call& call) const {
  const DecoderConfig& c = config_;
  const Block& block = blocks_[index];
  std::vector<Tensor> qkv = ops::linear_group(x, block.qkv, call);
  if (c.fused) {
    const int64_t kv = c.num_key_value_heads * c.head_dim;
    qkv = qkv[0].split_with_sizes({c.num_attention_heads * c.head_dim, kv, kv}, -1);
  }
  for (Tensor& part : qkv) part = part.unflatten(-1, {-1, c.head_dim});  // [batch, seq, heads, head_dim]
  if (c.qk_norms) {
    qkv[0] = ops::normalised(qkv[0], *block.q_norm, call);
    qkv[1] = ops::normalised(qkv[1], *block.k_norm, call);
  }
  const Tensor q = rotated(qkv[0].transpose(1, 2), turn);
  const auto [k, v] = with_past(index, rotated(qkv[1].transpose(1, 2), turn), qkv[2].transpose(1, 2), prefix, call);
  const bool windowed = !c.windowed.empty() && c.windowed[index];
  const Tensor mixed = ops::attention(
      q, k, v, windowed ? pass.windowed : pass.full,
      {.scale = c.attention_scale, .softcap = c.attention_softcap, .dropout = c.attention_dropout}, call);
  return ops::linear(mixed.transpose(1, 2).flatten(2), *block.o, call);
}

Tensor Decoder::feed(const Tensor& x, const Block& block, Call& call) const {
  std::vector<Tensor> gate_up = ops::linear_group(x, block.gate_up, call);
  if (config_.fused) gate_up = gate_up[0].chunk(2, -1);
  return ops::activated_linear(activation_, gate_up[0], gate_up[1], *block.down, call);
}

Tensor Decoder::run_block(const Tensor& input, int64_t index, const Tensor& prefix, const CausalPass& pass,
                          const Rotary::Turn& turn, Call& call) const {
  const Block& block = blocks_[index];
  const auto added = [&](Tensor output, const Norm* behind, const Linear& last) {
    if (behind) output = ops::normalised(output, *behind, call);
    return ops::mapped_output(ops::dropout(output, config_.resid_pdrop, call), last, call);
  };
  const Tensor mixed = attend(ops::normalised(input, *block.before_attention, call), index, prefix, pass, turn, call);
  const auto [x, inner] =
      ops::add_normalised(added(mixed, block.behind_attention, *block.o), input, *block.before_mlp, call);
  return x + added(feed(inner, block, call), block.behind_mlp, *block.down);
}

Tensor Decoder::features(const ModelInput& input, Call& call) const {
  const CausalPass pass = causal_pass(input, config_.window, call);
  const Rotary::Turn turn = config_.rotary->turn(pass.positions, pass.end, dtype_);
  Tensor x = embed(input, pass, call);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const auto block = [this, i, pass, turn](const std::vector<Tensor>& inputs, Call& own) {
      return run_block(inputs[0], i, inputs[1], pass, turn, own);
    };
    x = ops::checkpointed(block, {x, pass.prefix_of(i)}, call);
  }
  if (pass.prompt.defined()) x = x.narrow(1, pass.prompt.size(0), input.input_ids.size(1));
  x = ops::normalised(x, *norm_, call);
  return reads_tokens_ ? x : last_tokens(x, input);
}

Tensor Decoder::logits(const Tensor& features, Call& call) const {
  if (score_ && reads_tokens_) return ops::linear(ops::dropout(features, config_.token_dropout, call), *score_, call);
  if (score_) return ops::linear(features, *score_, call);
  const Tensor scores = ops::linear(features, *lm_head_, call);
  const double cap = config_.final_softcap;
  return cap == 0 ? scores : at::tanh(scores / cap) * cap;
}

}  // namespace deltaw

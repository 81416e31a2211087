// ModernBERT: Warner et al. 2024, arXiv:2412.13663. Rotary positions, LayerNorm before each sublayer, gated
// feed-forward layers; most layers see a window. Names and dropouts as transformers' modeling_modernbert.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "deltaw/active_updates.h"
#include "models/causal.h"
#include "models/encoder.h"
#include "models/family_input.h"
#include "models/rotary.h"
#include "ops/activations.h"
#include "ops/attention/attention.h"
#include "ops/checkpoint.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

// How the positions of one kind of layer turn, as the keys that Rotary reads.
ConfigValues rope_of(const ConfigValues& values, const char* kind, const char* theta_key, double theta) {
  const Json& config = values.json();
  Json own = {{"rope_type", "default"}};
  if (values.has("rope_parameters")) {
    const Json& all = config["rope_parameters"];
    const auto usable = [&](const char* name) {
      return !all.contains(name) || all[name].is_null() || all[name].is_object();
    };
    const bool known = all.is_object() && usable("full_attention") && usable("sliding_attention");
    if (!known) values.refuse("rope_parameters", "an object for full_attention and one for sliding_attention");
    if (all.contains(kind) && all[kind].is_object()) own = all[kind];
  }
  if (values.has("rope_scaling") && config["rope_scaling"].is_object()) own.update(config["rope_scaling"]);
  if (!own.contains("rope_theta")) own["rope_theta"] = values.positive_or(theta_key, theta);
  return {{{"rope_parameters", own}}, values.where()};
}

struct ModernBertConfig {
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
  int64_t max_position_embeddings, padding_idx;
  int64_t window = 0;       // places on either side that a local layer sees
  std::vector<bool> local;  // by layer
  double norm_eps, initializer_range;
  double embedding_dropout, attention_dropout, mlp_dropout, classifier_dropout;
  bool norm_bias, attention_bias, mlp_bias, classifier_bias, decoder_bias, tie_word_embeddings;
  std::string hidden_activation, classifier_activation, classifier_pooling;
  Rotary global_rotary, local_rotary;

  explicit ModernBertConfig(const ConfigValues& values)
      : vocab_size(values.size("vocab_size")),
        hidden_size(values.size("hidden_size")),
        intermediate_size(values.size("intermediate_size")),
        num_hidden_layers(values.layers("num_hidden_layers")),
        num_attention_heads(heads_of(values)),
        max_position_embeddings(values.size_or("max_position_embeddings", 8192)),
        padding_idx(values.padding_row(vocab_size, 50283)),
        norm_eps(values.not_negative_or("norm_eps", 1e-5)),
        initializer_range(values.not_negative_or("initializer_range", 0.02)),
        embedding_dropout(values.dropout_or("embedding_dropout", 0)),
        attention_dropout(values.dropout_or("attention_dropout", 0)),
        mlp_dropout(values.dropout_or("mlp_dropout", 0)),
        classifier_dropout(values.dropout_or("classifier_dropout", 0)),
        norm_bias(values.get_or("norm_bias", false)),
        attention_bias(values.get_or("attention_bias", false)),
        mlp_bias(values.get_or("mlp_bias", false)),
        classifier_bias(values.get_or("classifier_bias", false)),
        decoder_bias(values.get_or("decoder_bias", true)),
        tie_word_embeddings(values.get_or("tie_word_embeddings", true)),
        hidden_activation(values.get_or<std::string>("hidden_activation", "gelu")),
        classifier_activation(values.get_or<std::string>("classifier_activation", "gelu")),
        classifier_pooling(values.get_or<std::string>("classifier_pooling", "cls")),
        global_rotary(rope_of(values, "full_attention", "global_rope_theta", 160000), head_width(),
                      max_position_embeddings),
        local_rotary(rope_of(values, "sliding_attention", "local_rope_theta", 10000), head_width(),
                     max_position_embeddings) {
    if (classifier_pooling != "cls" && classifier_pooling != "mean") {
      values.refuse("classifier_pooling", "supported: \"cls\", \"mean\"");
    }
    const int64_t seen = values.size_or("local_attention", 128);
    if (seen < 2) values.refuse("local_attention", "at least 2, half of it on either side of a token");
    window = seen / 2;
    set_local_layers(values);
  }

  int64_t head_width() const { return hidden_size / num_attention_heads; }

 private:
  static int64_t heads_of(const ConfigValues& values) {
    const int64_t heads = values.size("num_attention_heads"), width = values.size("hidden_size");
    if (width % heads != 0) values.refuse("num_attention_heads", fmt::format("a divisor of hidden_size {}", width));
    Rotary::check_head_width(values, "hidden_size", width / heads);
    return heads;
  }

  void set_local_layers(const ConfigValues& values) {
    if (!values.has("layer_types")) {
      const int64_t every = values.size_or("global_attn_every_n_layers", 3);
      for (int64_t i = 0; i < num_hidden_layers; ++i) local.push_back(i % every != 0);
      return;
    }
    const auto types = values.get<std::vector<std::string>>("layer_types");
    for (const std::string& type : types) {
      local.push_back(type == "sliding_attention");
      if (!local.back() && type != "full_attention") local.clear();
    }
    if (types.size() != local.size() || static_cast<int64_t>(local.size()) != num_hidden_layers) {
      values.refuse("layer_types", "full_attention or sliding_attention for each layer");
    }
  }
};

class ModernBertEncoder final : public TextEncoder {
 public:
  ModernBertEncoder(Loader& load, const ModernBertConfig& config)
      : config_(config), activation_(config.hidden_activation, "hidden_activation") {
    const auto& c = config_;
    word_ = load.embedding(load.family().word_embeddings, c.vocab_size, c.hidden_size, c.padding_idx);
    embedding_norm_ = norm(load, "model.embeddings.norm");
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) load_block(load, fmt::format("model.layers.{}.", i));
    final_norm_ = norm(load, "model.final_norm");
  }

  Tensor states(const ModelInput& input, Reads reads, Call& call) const override {
    const Encoded encoded = encode(input, reads == Reads::first, call);
    if (reads == Reads::first) return encoded.states;
    return encoded.padding.add(encoded.states).narrow(1, encoded.prompts, input.input_ids.size(1));
  }

  /// The mean of each row's tokens, virtual ones among them: [batch, hidden].
  Tensor means(const ModelInput& input, Call& call) const {
    const Encoded encoded = encode(input, /*firsts_only=*/false, call);
    const Tensor mask = encoded.mask.ne(0).to(at::kLong);
    return (encoded.padding.add(encoded.states) * mask.unsqueeze(-1)).sum(1) / mask.sum(1, /*keepdim=*/true);
  }

  const Embedding& words() const { return *word_; }

 private:
  struct Block {
    const Norm* attn_norm;  // null: the embeddings' own
    const Linear *Wqkv, *attention_Wo;
    const Norm* mlp_norm;
    const Linear *Wi, *mlp_Wo;
  };
  /// What all blocks of a pass see.
  struct Pass {
    Padding padding;
    Tensor bias;  // of what is padding; undefined where nothing is
    Rotary::Turn global, local;
  };
  struct Encoded {
    Tensor states;  // [tokens, hidden], or [batch, hidden] of the first ones
    Padding padding;
    Tensor mask;      // [batch, seq], with virtual tokens
    int64_t prompts;  // virtual tokens before each row
  };

  const Norm* norm(Loader& load, const std::string& name) const {
    return load.layer_norm(name, config_.hidden_size, config_.norm_eps, config_.norm_bias);
  }

  void load_block(Loader& load, const std::string& p) {
    const auto& c = config_;
    const int64_t d = c.hidden_size, inner = c.intermediate_size;
    Block b{};
    if (!blocks_.empty()) b.attn_norm = norm(load, p + "attn_norm");
    b.Wqkv = load.linear(p + "attn.Wqkv", 3 * d, d, {.bias = c.attention_bias});
    b.attention_Wo = load.linear(p + "attn.Wo", d, d, {.bias = c.attention_bias});
    b.mlp_norm = norm(load, p + "mlp_norm");
    b.Wi = load.linear(p + "mlp.Wi", 2 * inner, d, {.bias = c.mlp_bias});
    b.mlp_Wo = load.linear(p + "mlp.Wo", d, inner, {.bias = c.mlp_bias});
    blocks_.push_back(b);
  }

  // The angles are rounded to the model's type, the turn itself is in float32 at least.
  static Rotary::Turn turn(const Rotary& rotary, const Tensor& positions, at::ScalarType type) {
    const Rotary::Turn angles = rotary.turn(positions, type);
    const at::ScalarType wide = type == at::kBFloat16 ? at::kFloat : type;
    return {angles.cos.to(wide), angles.sin.to(wide)};
  }
  static Tensor turned(const Tensor& x, const Rotary::Turn& turn) {
    return rotated(x.to(turn.cos.scalar_type()), turn).to(x.scalar_type());
  }

  Encoded encode(const ModelInput& input, bool firsts_only, Call& call) const {
    const VirtualTokens before = call.adapter ? call.adapter->virtual_tokens() : VirtualTokens{};
    const Tensor &prompt = before.embeddings, &own = input.attention_mask;
    const int64_t n = before.count(), prompts = prompt.defined() ? n : 0;
    const auto behind = [&](int64_t count) {
      return count > 0 ? at::cat({at::ones({own.size(0), count}, own.options()), own}, 1) : own;
    };
    Tensor words = ops::embedding(input.input_ids, *word_, call);
    if (prompts > 0) words = at::cat({prompt.to(words.scalar_type()).expand({words.size(0), -1, -1}), words}, 1);
    const at::ScalarType type = words.scalar_type();
    const Tensor mask = behind(prompts), positions = at::arange(words.size(1), own.options()).unsqueeze(0);
    const Pass pass{.padding = Padding(mask),
                    .bias = ops::attention_bias(behind(n), type),
                    .global = turn(config_.global_rotary, positions, type),
                    .local = turn(config_.local_rotary, positions, type)};
    Tensor x = ops::normalised(pass.padding.remove(words), *embedding_norm_, call);
    x = ops::dropout(x, config_.embedding_dropout, call);
    const int64_t last = config_.num_hidden_layers - 1;
    for (int64_t i = 0; i <= last; ++i) {
      // An observer is to see every token.
      const bool firsts = firsts_only && i == last && !call.observer;
      const auto block = [this, i, pass, firsts](const std::vector<Tensor>& inputs, Call& own_call) {
        return run_block(inputs, i, pass, firsts, own_call);
      };
      x = ops::checkpointed(block, {x, before.prefix.defined() ? before.prefix.select(1, i) : Tensor()}, call);
    }
    if (firsts_only && call.observer) x = pass.padding.firsts(x);
    return {ops::normalised(x, *final_norm_, call), pass.padding, mask, prompts};
  }

  // `inputs`: x [tokens, hidden] and a prefix [n, 2, hidden], or undefined -> the same of all tokens or of the first.
  Tensor run_block(const std::vector<Tensor>& inputs, int64_t index, const Pass& pass, bool firsts_only,
                   Call& call) const {
    const Block& b = blocks_[index];
    const auto& c = config_;
    const Tensor& x = inputs[0];
    const Tensor asking = firsts_only ? pass.padding.firsts(x) : x;
    const Tensor mixed =
        attend(b.attn_norm ? ops::normalised(x, *b.attn_norm, call) : x, inputs[1], index, pass, firsts_only, call);
    const Tensor attended = ops::mapped_output(ops::dropout(mixed, c.attention_dropout, call), *b.attention_Wo, call);
    const auto [sum, fed] = ops::add_normalised(attended, asking, *b.mlp_norm, call);
    const std::vector<Tensor> gate_up = ops::linear(fed, *b.Wi, call).chunk(2, -1);
    const bool drops = call.training && c.mlp_dropout > 0;
    const Tensor output =
        drops
            ? ops::linear(ops::dropout(activation_.gated(gate_up[0], gate_up[1]), c.mlp_dropout, call), *b.mlp_Wo, call)
            : ops::activated_linear(activation_, gate_up[0], gate_up[1], *b.mlp_Wo, call);
    return sum + ops::mapped_output(output, *b.mlp_Wo, call);
  }

  Tensor attend(const Tensor& x, const Tensor& prefix, int64_t index, const Pass& pass, bool firsts_only,
                Call& call) const {
    const auto& c = config_;
    const Block& b = blocks_[index];
    const bool local = c.local[index];
    const Tensor qkv = pass.padding.add(ops::linear(x, *b.Wqkv, call))
                           .unflatten(-1, {3, c.num_attention_heads, c.head_width()});  // [batch, seq, 3, heads, width]
    const auto part = [&](int64_t which) { return qkv.select(2, which).transpose(1, 2); };
    const Rotary::Turn& angles = local ? pass.local : pass.global;
    Tensor q = turned(part(0), angles);
    auto [k, v] = with_past(index, turned(part(1), angles), part(2), prefix, call);
    ops::AttentionMask mask{.bias = pass.bias, .window = local ? c.window : 0};
    if (firsts_only) {  // a first token sees only the tokens after it that its window reaches
      const int64_t behind = q.size(2), before = k.size(2) - behind;
      const int64_t seen = before + (local ? std::min(behind, c.window + 1) : behind);
      q = q.narrow(2, 0, 1);
      k = k.narrow(2, 0, seen);
      v = v.narrow(2, 0, seen);
      mask = {.bias = pass.bias.defined() ? pass.bias.narrow(3, 0, seen) : Tensor()};
    }
    const Tensor mixed =
        ops::attention(q, k, v, mask, {.dropout = c.attention_dropout}, call).transpose(1, 2).flatten(2);
    return ops::linear(firsts_only ? mixed.squeeze(1) : pass.padding.remove(mixed), *b.attention_Wo, call);
  }

  const ModernBertConfig config_;
  const Embedding* word_ = nullptr;
  const Norm *embedding_norm_ = nullptr, *final_norm_ = nullptr;
  std::vector<Block> blocks_;
  ops::Activation activation_;
};

class ModernBert final : public EncoderModel {
 public:
  explicit ModernBert(const FamilyInput& input) {
    const ModernBertConfig c(config_of(input));
    Loader load(*this, input, "model");
    auto encoder = std::make_unique<ModernBertEncoder>(load, c);
    const std::string& task = load.head_spec().task_type;
    if (task != "SEQ_CLS") reads_ = Reads::every;
    means_ = task == "SEQ_CLS" && c.classifier_pooling == "mean" ? encoder.get() : nullptr;
    if (!load.head_spec().module.empty()) load_head(load, c, encoder->words());
    load.finish({"head."});

    const Tensor& words = encoder->words().weight.value;
    encoder_ = std::move(encoder);
    vocab_size_ = c.vocab_size;
    max_positions_ = c.max_position_embeddings;
    shape_ = {.layers = c.num_hidden_layers,
              .hidden = c.hidden_size,
              .heads = c.num_attention_heads,
              .prefix_heads = c.num_attention_heads,
              .prefix_width = c.hidden_size,
              .word_embeddings = words};
  }

  Tensor features(const ModelInput& input, Call& call) const override {
    return means_ ? means_->means(input, call) : EncoderModel::features(input, call);
  }

 private:
  void load_head(Loader& load, const ModernBertConfig& c, const Embedding& words) {
    const double std = c.initializer_range / std::sqrt(2.0 * static_cast<double>(c.num_hidden_layers));
    const int64_t d = c.hidden_size;
    layers_.linear(load.head("head.dense", d, d, std, c.classifier_bias))
        .activation(c.classifier_activation, "classifier_activation")
        .norm(load.head_norm("head.norm", d, c.norm_eps, c.norm_bias));
    const std::string& last = load.head_spec().module;
    if (!load.head_spec().weight.empty()) {
      const double p = c.classifier_dropout;
      layers_.last(load, num_labels(), d, 1 / std::sqrt(static_cast<double>(d)), p, p);
    } else {
      const std::string bias = c.decoder_bias ? last + ".bias" : "";
      layers_.linear(c.tie_word_embeddings ? load.tied_head(last, words, bias)
                                           : load.word_head(last, c.vocab_size, d, bias));
    }
  }

  const ModernBertEncoder* means_ = nullptr;  // where the head reads the mean of each row
};

}  // namespace

const FamilySpec& family_modernbert() {
  static const FamilySpec spec = {
      .model_type = "modernbert",
      .heads = encoder_heads("ModernBert", "classifier.weight", "decoder", "classifier"),
      .word_embeddings = "model.embeddings.tok_embeddings",
      .lora_target_modules = {"Wqkv"},  // PEFT has none
      .ia3_target_modules = {"Wqkv", "mlp.Wo"},
      .ia3_feedforward_modules = {"mlp.Wo"},
      .sublayer_outputs = {"Wo"},
      .feedforward_outputs = {"mlp.Wo"},
      .load = [](const FamilyInput& input) { return std::make_unique<ModernBert>(input); },
  };
  return spec;
}

}  // namespace deltaw

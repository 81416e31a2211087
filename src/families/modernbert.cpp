// ModernBERT: Warner et al. 2024, arXiv:2412.13663. Rotary positions, LayerNorm before each sublayer, gated
// feed-forward layers; most layers see a window. Names and dropouts as transformers' modeling_modernbert.
#include <fmt/format.h>

#include <cmath>

#include "models/encoder.h"
#include "models/family_input.h"
#include "models/rotary.h"
#include "models/text_encoder.h"
#include "models/virtual_tokens.h"
#include "ops/layers.h"
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
  ModernBertEncoder(Loader& load, const ModernBertConfig& config) : config_(config) {
    const auto& c = config_;
    const ops::Activation activation(c.hidden_activation, "hidden_activation");
    words_ = load.embedding(load.family().word_embeddings, c.vocab_size, c.hidden_size, c.padding_idx);
    embedding_norm_ = norm(load, "model.embeddings.norm");
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) blocks_.push_back(load_block(load, activation, i));
    final_norm_ = norm(load, "model.final_norm");
  }

 private:
  enum Turns { kGlobal, kLocal };

  const Norm* norm(Loader& load, const std::string& name) const {
    return load.layer_norm(name, config_.hidden_size, config_.norm_eps, config_.norm_bias);
  }

  Block load_block(Loader& load, const ops::Activation& activation, int64_t index) const {
    const auto& c = config_;
    const int64_t d = c.hidden_size, inner = c.intermediate_size;
    const std::string name = fmt::format("model.layers.{}.", index);
    Block b{.norms_first = true};
    if (index > 0)
      b.attention_norm = norm(load, name + "attn_norm");  // the first reads what the embeddings' norm gives
    b.attention = {.qkv = {load.linear(name + "attn.Wqkv", 3 * d, d, {.bias = c.attention_bias})},
                   .heads = c.num_attention_heads,
                   .key_heads = c.num_attention_heads,
                   .width = c.head_width(),
                   .form = {.dropout = c.attention_dropout},
                   .window = c.local[index] ? c.window : 0,
                   .output = {.layer = load.linear(name + "attn.Wo", d, d, {.bias = c.attention_bias}),
                              .dropout = c.attention_dropout}};
    b.feed_forward_norm = norm(load, name + "mlp_norm");
    b.feed_forward = {.inner = {load.linear(name + "mlp.Wi", 2 * inner, d, {.bias = c.mlp_bias})},
                      .gated = true,
                      .activation = activation,
                      .dropout = c.mlp_dropout,
                      .output = {.layer = load.linear(name + "mlp.Wo", d, inner, {.bias = c.mlp_bias})}};
    return b;
  }

  // The angles are rounded to the model's type, the turn itself is in float32 at least.
  static Rotary::Turn turn(const Rotary& rotary, const Tensor& positions, at::ScalarType type) {
    const Rotary::Turn angles = rotary.turn(positions, positions.size(1), type);
    const at::ScalarType wide = type == at::kBFloat16 ? at::kFloat : type;
    return {angles.cos.to(wide), angles.sin.to(wide)};
  }

  Tensor embed(const ModelInput& input, const VirtualTokens& before, Pass& pass, Call& call) const override {
    const Tensor words = behind_prompt(before.embeddings, ops::embedding(input.input_ids, *words_, call));
    const Tensor positions = at::arange(words.size(1), input.input_ids.options()).unsqueeze(0);
    pass.turns = {turn(config_.global_rotary, positions, words.scalar_type()),
                  turn(config_.local_rotary, positions, words.scalar_type())};
    const Tensor x = ops::normalised(pass.padding.remove(words), *embedding_norm_, call);
    return ops::dropout(x, config_.embedding_dropout, call);
  }

  Tensor run(const Tensor& x, BlockInput input, const Pass& pass, Call& call) const override {
    const Block& block = blocks_[input.layer];
    input.mask.window = block.attention.window;
    input.turn = pass.turns[config_.local[input.layer] ? kLocal : kGlobal];
    return block(x, input, call);
  }

  const ModernBertConfig config_;
  const Norm* embedding_norm_ = nullptr;
};

class ModernBert final : public EncoderModel {
 public:
  explicit ModernBert(const FamilyInput& input) {
    const ModernBertConfig c(config_of(input));
    Loader load(*this, input, "model");
    take(std::make_unique<ModernBertEncoder>(load, c), {.max_positions = c.max_position_embeddings});
    load_head(load, c);
    load.finish({"head."});
  }

 private:
  void load_head(Loader& load, const ModernBertConfig& c) {
    const HeadSpec& head = load.head_spec();
    reads_ = !reads_first_tokens(head) ? Reads::every : c.classifier_pooling == "mean" ? Reads::mean : Reads::first;
    if (head.module.empty()) return;
    const double std = c.initializer_range / std::sqrt(2.0 * static_cast<double>(c.num_hidden_layers));
    const int64_t d = c.hidden_size;
    layers_.linear(load.head("head.dense", d, d, std, c.classifier_bias))
        .activation(c.classifier_activation, "classifier_activation")
        .norm(load.head_norm("head.norm", d, c.norm_eps, c.norm_bias));
    if (!head.weight.empty()) {
      const double p = c.classifier_dropout;
      layers_.last(load, num_labels(), d, 1 / std::sqrt(static_cast<double>(d)), p, p);
    } else {
      const std::string bias = c.decoder_bias ? head.module + ".bias" : "";
      layers_.linear(c.tie_word_embeddings ? load.tied_head(head.module, encoder_->words(), bias)
                                           : load.word_head(head.module, c.vocab_size, d, bias));
    }
  }
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

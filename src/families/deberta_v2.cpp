// DeBERTa-v2 and v3: He et al. 2021, arXiv:2006.03654 and arXiv:2111.09543. Attention tells what tokens are from how
// far they stand apart. Names and dropouts as transformers' modeling_deberta_v2.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "deltaw/active_updates.h"
#include "models/encoder.h"
#include "models/family_input.h"
#include "models/virtual_tokens.h"
#include "ops/attention/disentangled.h"
#include "ops/host_read.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

// "p2c|c2p" as its words; a list is one already.
std::vector<std::string> words_of(const ConfigValues& values, const char* key) {
  if (values.has(key) && values.json()[key].is_array()) return values.get<std::vector<std::string>>(key);
  std::vector<std::string> words(1);
  for (const char c : values.get_or<std::string>(key, "")) {
    if (c == '|') {
      words.emplace_back();
    } else if (c != ' ') {
      words.back() += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return words;
}

// Whether `word` is among the key's. Any others than those of `known` are refused.
bool names(const ConfigValues& values, const char* key, const std::string& word,
           const std::vector<std::string>& known) {
  const std::vector<std::string> words = words_of(values, key);
  for (const std::string& own : words) {
    if (own.empty() || std::find(known.begin(), known.end(), own) != known.end()) continue;
    values.refuse(key, fmt::format("supported: {}", fmt::join(known, ", ")));
  }
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A config.json without types of tokens, as that of most checkpoints is, in BERT's keys.
ConfigValues with_types(const ConfigValues& values) {
  Json config = values.json();
  if (config.value("type_vocab_size", Json()) == 0) config.erase("type_vocab_size");
  return {std::move(config), values.where()};
}

struct DebertaConfig : EncoderConfig {
  bool relative_attention = false, share_att_key = false, position_biased_input = true;
  bool c2p = false, p2c = false, norm_rel_ebd = false;
  int64_t position_buckets = -1,
          max_relative_positions = -1;            // the furthest distance; without buckets, 0 or less: none
  int64_t conv_kernel_size = 0, conv_groups = 1;  // 0: no convolution
  std::string conv_act = "tanh", pooler_hidden_act = "gelu";
  double pooler_dropout = 0, cls_dropout = 0;

  explicit DebertaConfig(const ConfigValues& values) : EncoderConfig(from_json(with_types(values), 0)) {
    if (values.get_or<int64_t>("type_vocab_size", 0) == 0) type_vocab_size = 0;
    layer_norm_eps = values.not_negative_or("layer_norm_eps", 1e-7);
    embedding_size = values.size_or("embedding_size", hidden_size);
    read_attention(values);
    read_convolution(values);
    read_pooler(values);
  }

  /// Rows of the table of distances; 0 where there is none.
  int64_t distances() const {
    if (!relative_attention) return 0;
    return 2 * (position_buckets > 0 ? position_buckets : max_relative_positions);
  }
  double score_scale() const {
    const auto terms = static_cast<double>(1 + (c2p ? 1 : 0) + (p2c ? 1 : 0));
    return 1 / std::sqrt(terms * static_cast<double>(hidden_size / num_attention_heads));
  }

 private:
  void read_attention(const ConfigValues& values) {
    relative_attention = values.get_or("relative_attention", relative_attention);
    share_att_key = values.get_or("share_att_key", share_att_key);
    position_biased_input = values.get_or("position_biased_input", position_biased_input);
    c2p = names(values, "pos_att_type", "c2p", {"c2p", "p2c"});
    p2c = names(values, "pos_att_type", "p2c", {"c2p", "p2c"});
    norm_rel_ebd = names(values, "norm_rel_ebd", "layer_norm", {"layer_norm", "none"});
    position_buckets = values.get_or("position_buckets", position_buckets);
    if (position_buckets == 1) values.refuse("position_buckets", "at least 2, or -1 for none");
    if (position_buckets > 0) position_buckets = values.size("position_buckets");
    if (values.get_or<int64_t>("max_relative_positions", -1) > 0) {
      max_relative_positions = values.size("max_relative_positions");
    } else {
      max_relative_positions = max_position_embeddings;
    }
    const int64_t width = hidden_size / num_attention_heads;
    if (values.size_or("attention_head_size", width) != width) {
      values.refuse("attention_head_size", fmt::format("hidden_size / num_attention_heads = {}", width));
    }
  }

  void read_convolution(const ConfigValues& values) {
    if (values.get_or<int64_t>("conv_kernel_size", 0) <= 0) return;
    conv_kernel_size = values.size("conv_kernel_size");
    conv_groups = values.size_or("conv_groups", conv_groups);
    conv_act = values.get_or<std::string>("conv_act", conv_act);
    if (conv_kernel_size % 2 == 0) values.refuse("conv_kernel_size", "an odd number, which keeps the tokens' number");
    if (hidden_size % conv_groups != 0) {
      values.refuse("conv_groups", fmt::format("a divisor of hidden_size {}", hidden_size));
    }
  }

  void read_pooler(const ConfigValues& values) {
    if (values.size_or("pooler_hidden_size", hidden_size) != hidden_size) {
      values.refuse("pooler_hidden_size", fmt::format("hidden_size {}", hidden_size));
    }
    pooler_dropout = values.dropout_or("pooler_dropout", pooler_dropout);
    pooler_hidden_act = values.get_or<std::string>("pooler_hidden_act", pooler_hidden_act);
    cls_dropout = values.dropout_or("cls_dropout", hidden_dropout_prob);
  }
};

// The row of the table that each distance has: those of key - query = 1 - length, ..., length - 1. Near ones have a row
// of their own; with buckets, far ones share by the logarithm.
Tensor rows_of_distances(int64_t length, const DebertaConfig& c) {
  const int64_t half = c.distances() / 2;
  Tensor distance = at::arange(length - 1, -length, -1, at::kLong);  // query - key
  if (c.position_buckets > 0) {
    const int64_t near = c.position_buckets / 2;
    const double furthest = static_cast<double>(c.max_relative_positions - 1) / static_cast<double>(near);
    const Tensor far = at::ceil(at::log(distance.abs().clamp_min(near) / near) /
                                at::log(at::scalar_tensor(furthest, at::kFloat)) * (near - 1)) +
                       near;
    const auto most = static_cast<double>(2 * half);
    const Tensor signed_far = (far.nan_to_num(most, most, -most).clamp(-most, most) * distance.sign()).to(at::kLong);
    distance = at::where(distance.abs().le(near), distance, signed_far);
  }
  return (distance + half).clamp(0, 2 * half - 1);
}

class DebertaEncoder final : public TextEncoder {
 public:
  DebertaEncoder(Loader& load, const DebertaConfig& config) : config_(config) {
    const auto& c = config_;
    const Block empty = c.block();
    const std::string embeddings = "deberta.embeddings.", encoder = "deberta.encoder.";
    const int64_t width = c.embedding_size;
    if (c.position_biased_input) max_positions_ = c.max_position_embeddings;
    words_ = load.embedding(load.family().word_embeddings, c.vocab_size, width, c.padding_idx);
    if (c.position_biased_input)
      positions_ = load.embedding(embeddings + "position_embeddings", c.max_position_embeddings, width);
    if (c.type_vocab_size > 0) types_ = load.embedding(embeddings + "token_type_embeddings", c.type_vocab_size, width);
    if (width != c.hidden_size)
      projection_ = load.linear(embeddings + "embed_proj", c.hidden_size, width, {.bias = false});
    embedding_norm_ = load.layer_norm(embeddings + "LayerNorm", c.hidden_size, c.layer_norm_eps);
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) load_block(load, empty, fmt::format("{}layer.{}.", encoder, i));
    if (c.relative_attention) distances_ = load.embedding(encoder + "rel_embeddings", c.distances(), c.hidden_size);
    if (c.norm_rel_ebd) distance_norm_ = load.layer_norm(encoder + "LayerNorm", c.hidden_size, c.layer_norm_eps);
    if (c.conv_kernel_size == 0) return;
    conv_ = load.conv1d(encoder + "conv.conv", c.hidden_size, c.hidden_size, c.conv_kernel_size, c.conv_groups);
    conv_norm_ = load.layer_norm(encoder + "conv.LayerNorm", c.hidden_size, c.layer_norm_eps);
    conv_activation_.emplace(c.conv_act, "conv_act");
  }

 private:
  /// What makes keys and queries of the distances: a block's own layers, or those of the tokens where they are shared.
  struct DistanceLayers {
    const Linear *key = nullptr, *query = nullptr;
  };
  /// What all blocks share: embeddings of distances [vectors, hidden], which of them a distance has
  /// (ops::DistanceVectors), the embeddings of tokens [batch, seq, hidden]; undefined where there are none.
  enum Shared { kDistances, kVectorOf, kEmbedded };

  void load_block(Loader& load, Block b, const std::string& name) {
    const int64_t d = config_.hidden_size, inner = config_.intermediate_size;
    const auto linear = [&](const std::string& own, int64_t d_out, int64_t d_in) {
      return load.linear(name + own, d_out, d_in);
    };
    const auto norm = [&](const std::string& own) { return load.layer_norm(name + own, d, config_.layer_norm_eps); };
    const std::string self = "attention.self.";
    const Linear* query = linear(self + "query_proj", d, d);
    const Linear* key = linear(self + "key_proj", d, d);
    b.attention.qkv = {query, key, linear(self + "value_proj", d, d)};
    DistanceLayers distances;
    const bool shared = config_.share_att_key, related = config_.relative_attention;
    if (related && config_.c2p) distances.key = shared ? key : linear(self + "pos_key_proj", d, d);
    if (related && config_.p2c) distances.query = shared ? query : linear(self + "pos_query_proj", d, d);
    b.attention.form.scale = config_.score_scale();
    b.attention.output.layer = linear("attention.output.dense", d, d);
    b.attention_norm = norm("attention.output.LayerNorm");
    b.feed_forward.inner = {linear("intermediate.dense", inner, d)};
    b.feed_forward.output.layer = linear("output.dense", d, inner);
    b.feed_forward_norm = norm("output.LayerNorm");
    blocks_.push_back(std::move(b));
    distance_layers_.push_back(distances);
  }

  Tensor embed(const ModelInput& input, const VirtualTokens& before, Pass& pass, Call& call) const override {
    Tensor x = behind_prompt(before.embeddings, ops::embedding(input.input_ids, *words_, call));
    if (positions_) x = x + ops::embedding(at::arange(x.size(1), at::kLong), *positions_, call);
    if (types_) x = x + ops::embedding(types_of(input, pass, config_.type_vocab_size), *types_, call);
    pass.shared.resize(3);
    if (distances_) relate(x.size(1), pass, call);
    x = pass.padding.remove(x);
    if (projection_) x = ops::linear(x, *projection_, call);
    x = ops::dropout(ops::normalised(x, *embedding_norm_, call), config_.hidden_dropout_prob, call);
    if (conv_) pass.shared[kEmbedded] = pass.padding.add(x) * pass.mask.ne(0).unsqueeze(-1).to(x.device());
    return x;
  }

  // The distances that occur in rows of this length.
  void relate(int64_t length, Pass& pass, const Call& call) const {
    const Tensor rows = rows_of_distances(length, config_);
    const auto [least, greatest] = ops::known_range(rows);
    const Tensor vectors = ops::embedding(at::arange(least, greatest + 1, at::kLong), *distances_, call);
    pass.shared[kDistances] = distance_norm_ ? ops::normalised(vectors, *distance_norm_, call) : vectors;
    pass.shared[kVectorOf] = rows - least;
  }

  Tensor run(const Tensor& x, BlockInput input, const Pass& pass, Call& call) const override {
    const bool convolved = conv_ && input.layer == 0, firsts_only = input.firsts_only;
    if (convolved) input.firsts_only = false;
    const Block& block = blocks_[input.layer];
    const Tensor asking = input.firsts_only ? input.padding.firsts(x) : x;
    const auto [q, k, v] = block.attention.project(x, asking, input.padding, call);
    const ops::DistanceVectors vectors = vectors_of(pass.shared, distance_layers_[input.layer], call);
    const Tensor mixed = ops::disentangled_attention(q, k, v, vectors, input.mask, block.attention.form, call);
    const Tensor y = block.behind_attention(block.attention.added(mixed, input, call), asking, call);
    if (!convolved) return y;
    const Tensor neighboured = convolve(pass.shared[kEmbedded], y, input.padding, call);
    return firsts_only ? input.padding.firsts(neighboured) : neighboured;
  }

  // Keys and queries of the distances.
  ops::DistanceVectors vectors_of(const std::vector<Tensor>& shared, const DistanceLayers& own, Call& call) const {
    std::vector<const Linear*> layers;
    for (const Linear* layer : {own.key, own.query}) {
      if (layer) layers.push_back(layer);
    }
    if (layers.empty()) return {};
    const Tensor distances = ops::dropout(shared[kDistances], config_.hidden_dropout_prob, call);
    const std::vector<Tensor> vectors = ops::linear_group(distances, layers, call);
    const auto split = [&](const Tensor& t) { return t.unflatten(-1, {config_.num_attention_heads, -1}); };
    return {.keys = own.key ? split(vectors.front()) : Tensor(),
            .queries = own.query ? split(vectors.back()) : Tensor(),
            .vector_of = shared[kVectorOf]};
  }

  // The embeddings' neighbours added to the first block's output y [tokens, hidden].
  Tensor convolve(const Tensor& embedded, const Tensor& y, const Padding& padding, Call& call) const {
    const auto value = [&](const Parameter& p) {
      return (call.adapter ? call.adapter->value(p) : p.value).to(embedded.scalar_type());
    };
    const Tensor mixed = at::conv1d(embedded.transpose(1, 2), value(conv_->weight), value(conv_->bias), {1},
                                    {config_.conv_kernel_size / 2}, {1}, config_.conv_groups)
                             .transpose(1, 2);
    const Tensor own = ops::dropout(padding.remove(mixed.contiguous()), config_.hidden_dropout_prob, call);
    return ops::add_normalised((*conv_activation_)(own), y, *conv_norm_, call).normalised;
  }

  DebertaConfig config_;
  const Embedding *positions_ = nullptr, *types_ = nullptr, *distances_ = nullptr;
  const Linear* projection_ = nullptr;
  const Norm *embedding_norm_ = nullptr, *distance_norm_ = nullptr, *conv_norm_ = nullptr;
  const Layer* conv_ = nullptr;
  std::vector<DistanceLayers> distance_layers_;  // by block
  std::optional<ops::Activation> conv_activation_;
};

class DebertaV2 final : public EncoderModel {
 public:
  explicit DebertaV2(const FamilyInput& input) {
    const ConfigValues values = config_of(input);
    const DebertaConfig c(values);
    Loader load(*this, input, "deberta");
    take(std::make_unique<DebertaEncoder>(load, c), {.max_positions = c.max_position_embeddings,
                                                     .type_vocab_size = c.type_vocab_size,
                                                     .position_table = c.position_biased_input,
                                                     .takes_prefix = false});
    EncoderHeads heads{.rows = {.dense = "pooler.dense",
                                .activation = c.pooler_hidden_act,
                                .activation_key = "pooler_hidden_act",
                                .dense_dropout = c.pooler_dropout,
                                .dropout = c.cls_dropout},
                       .token_dropout = c.hidden_dropout_prob};
    if (load.head_spec().task_type == "fill-mask") heads.masked = masked_form(values, c, *input.checkpoint);
    load_head(load, heads, c.initializer_range);
    std::vector<std::string> others = {"cls.", "lm_predictions.", "mask_predictions.", "pooler.",
                                       "embeddings.position_ids"};
    if (!c.position_biased_input) others.emplace_back("embeddings.position_embeddings.");
    load.finish(others);
  }

 private:
  // Two classes of transformers, by the key `legacy`; where config.json is silent, the one that the checkpoint has.
  static MaskedLmForm masked_form(const ConfigValues& values, const DebertaConfig& c,
                                  const io::Checkpoint& checkpoint) {
    const bool silent = !values.has("legacy");
    const bool has_other = checkpoint.find("lm_predictions.lm_head.dense.weight") &&
                           !checkpoint.find("cls.predictions.transform.dense.weight");
    const bool legacy = silent ? !has_other : values.get<bool>("legacy");
    MaskedLmForm form{.dense = "cls.predictions.transform.dense",
                      .norm = "cls.predictions.transform.LayerNorm",
                      .bias = c.tie_word_embeddings ? "cls.predictions.bias" : "cls.predictions.decoder.bias",
                      .activation = c.hidden_act,
                      .eps = c.layer_norm_eps,
                      .tied = c.tie_word_embeddings};
    if (legacy) return form;
    if (c.embedding_size != c.hidden_size) {
      values.refuse("embedding_size", fmt::format("hidden_size {}, where legacy is false", c.hidden_size));
    }
    form.dense = "lm_predictions.lm_head.dense";
    form.norm = "lm_predictions.lm_head.LayerNorm";
    form.bias = "lm_predictions.lm_head.bias";
    form.tied = true;
    return form;
  }
};

}  // namespace

const FamilySpec& family_deberta_v2() {
  static const FamilySpec spec = {
      .model_type = "deberta-v2",
      .heads = encoder_heads("DebertaV2", "classifier.weight", "cls.predictions.decoder"),
      .word_embeddings = "deberta.embeddings.word_embeddings",
      .lora_target_modules = {"query_proj", "value_proj"},
      .adalora_target_modules = {"query_proj", "key_proj", "value_proj", "dense"},
      .ia3_target_modules = {"key_proj", "value_proj", "output.dense"},
      .ia3_feedforward_modules = {"output.dense"},
      .sublayer_outputs = {"output.dense"},
      .feedforward_outputs = ".*\\.layer\\.\\d+\\.output\\.dense",  // and not attention.output.dense
      .load = [](const FamilyInput& input) { return std::make_unique<DebertaV2>(input); },
  };
  return spec;
}

}  // namespace deltaw

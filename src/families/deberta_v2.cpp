// DeBERTa-v2 and v3: He et al. 2021, arXiv:2006.03654 and arXiv:2111.09543. Attention tells what tokens are from how
// far they stand apart. Names and dropouts as transformers' modeling_deberta_v2.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "deltaw/active_updates.h"
#include "deltaw/error.h"
#include "models/encoder.h"
#include "models/family_input.h"
#include "ops/attention/disentangled.h"
#include "ops/checkpoint.h"
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

[[noreturn]] void refuse_prompt(int64_t width, int64_t embedding_size) {
  throw Error(
      {.id = "config.no-virtual-tokens",
       .what = fmt::format("virtual tokens of {} numbers cannot stand before embeddings of {}", width, embedding_size),
       .where = "the adapter",
       .fix = "choose a method that adapts layers; `deltaw methods` lists them"});
}

class DebertaEncoder : public TextEncoder {
 public:
  DebertaEncoder(Loader& load, const DebertaConfig& config) : config_(config), activation_(config.hidden_act) {
    const auto& c = config_;
    const std::string embeddings = "deberta.embeddings.", encoder = "deberta.encoder.";
    const int64_t width = c.embedding_size;
    word_ = load.embedding(load.family().word_embeddings, c.vocab_size, width, c.padding_idx);
    if (c.position_biased_input)
      position_ = load.embedding(embeddings + "position_embeddings", c.max_position_embeddings, width);
    if (c.type_vocab_size > 0) type_ = load.embedding(embeddings + "token_type_embeddings", c.type_vocab_size, width);
    if (width != c.hidden_size)
      projection_ = load.linear(embeddings + "embed_proj", c.hidden_size, width, {.bias = false});
    embedding_norm_ = load.layer_norm(embeddings + "LayerNorm", c.hidden_size, c.layer_norm_eps);
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) load_block(load, fmt::format("{}layer.{}.", encoder, i));
    if (c.relative_attention) distances_ = load.embedding(encoder + "rel_embeddings", c.distances(), c.hidden_size);
    if (c.norm_rel_ebd) distance_norm_ = load.layer_norm(encoder + "LayerNorm", c.hidden_size, c.layer_norm_eps);
    if (c.conv_kernel_size == 0) return;
    conv_ = load.conv1d(encoder + "conv.conv", c.hidden_size, c.hidden_size, c.conv_kernel_size, c.conv_groups);
    conv_norm_ = load.layer_norm(encoder + "conv.LayerNorm", c.hidden_size, c.layer_norm_eps);
    conv_activation_.emplace(c.conv_act, "conv_act");
  }

  const Embedding& words() const { return *word_; }

  /// Where only the first tokens are read, the last block computes no others.
  Tensor states(const ModelInput& input, Reads reads, Call& call) const override {
    const bool table = config_.position_biased_input;
    const VirtualTokens before =
        virtual_tokens_of(call, input, table ? config_.max_position_embeddings : std::numeric_limits<int64_t>::max());
    const int64_t prompts = before.count();
    Tensor mask = input.attention_mask;
    if (prompts > 0) mask = at::cat({at::ones({mask.size(0), prompts}, mask.options()), mask}, 1);
    Tensor x = embed(input, before.embeddings, call);
    Pass pass{.padding = Padding(mask), .mask = ops::attention_bias(mask, x.scalar_type())};
    const Tensor distances = relate(x.size(1), pass, call);
    x = pass.padding.remove(x);
    if (projection_) x = ops::linear(x, *projection_, call);
    x = ops::dropout(ops::normalised(x, *embedding_norm_, call), config_.hidden_dropout_prob, call);
    const Tensor embedded = conv_ ? pass.padding.add(x) * mask.ne(0).unsqueeze(-1) : Tensor();
    const auto last = static_cast<int64_t>(blocks_.size()) - 1;
    bool firsts_only = false;
    for (int64_t i = 0; i <= last; ++i) {
      const bool convolved = conv_ && i == 0;
      // An observer is to see every token.
      firsts_only = i == last && reads == Reads::first && !call.observer && !convolved;
      const auto block = [this, i, pass, firsts_only, convolved](const std::vector<Tensor>& inputs, Call& own) {
        const Tensor y = run_block(inputs[0], inputs[1], blocks_[i], pass, firsts_only, own);
        return convolved ? convolve(inputs[2], y, pass, own) : y;
      };
      x = ops::checkpointed(block, {x, distances, convolved ? embedded : Tensor()}, call);
    }
    if (reads == Reads::first) return firsts_only ? x : pass.padding.firsts(x);
    return pass.padding.add(x).narrow(1, prompts, input.input_ids.size(1));
  }

 private:
  struct Block {
    const Linear *query, *key, *value, *attention_output;
    const Linear *distance_key = nullptr, *distance_query = nullptr;  // the former ones where they are shared
    const Norm* attention_norm;
    const Linear *intermediate, *output;
    const Norm* output_norm;
  };
  /// What all blocks of a pass see.
  struct Pass {
    Padding padding;
    Tensor mask;       // added to the scores; undefined where all tokens see all
    Tensor vector_of;  // as ops::DistanceVectors has it; undefined without relative attention
  };

  void load_block(Loader& load, const std::string& p) {
    const int64_t d = config_.hidden_size, inner = config_.intermediate_size;
    const auto norm = [&](const std::string& name) { return load.layer_norm(p + name, d, config_.layer_norm_eps); };
    const std::string self = p + "attention.self.";
    Block b{};
    b.query = load.linear(self + "query_proj", d, d);
    b.key = load.linear(self + "key_proj", d, d);
    b.value = load.linear(self + "value_proj", d, d);
    if (config_.relative_attention) {
      const bool shared = config_.share_att_key;
      if (config_.c2p) b.distance_key = shared ? b.key : load.linear(self + "pos_key_proj", d, d);
      if (config_.p2c) b.distance_query = shared ? b.query : load.linear(self + "pos_query_proj", d, d);
    }
    b.attention_output = load.linear(p + "attention.output.dense", d, d);
    b.attention_norm = norm("attention.output.LayerNorm");
    b.intermediate = load.linear(p + "intermediate.dense", inner, d);
    b.output = load.linear(p + "output.dense", d, inner);
    b.output_norm = norm("output.LayerNorm");
    blocks_.push_back(b);
  }

  // [rows, length, embedding_size].
  Tensor embed(const ModelInput& input, const Tensor& prompt, const Call& call) const {
    Tensor words = ops::embedding(input.input_ids, *word_, call);
    Tensor types = input.token_type_ids.defined() && config_.type_vocab_size > 1 ? input.token_type_ids
                                                                                 : at::zeros_like(input.input_ids);
    if (prompt.defined()) {
      const int64_t rows = words.size(0), n = prompt.size(0);
      if (prompt.size(1) != words.size(2)) refuse_prompt(prompt.size(1), words.size(2));
      words = at::cat({prompt.to(words.scalar_type()).expand({rows, -1, -1}), words}, 1);
      types = at::cat({at::zeros({rows, n}, types.options()), types}, 1);
    }
    if (position_) words = words + ops::embedding(at::arange(words.size(1), at::kLong), *position_, call);
    return type_ ? words + ops::embedding(types, *type_, call) : words;
  }

  // The embeddings of the distances that occur in rows of this length, [vectors, hidden], and their numbers in `pass`.
  Tensor relate(int64_t length, Pass& pass, const Call& call) const {
    if (!distances_) return {};
    const Tensor rows = rows_of_distances(length, config_);
    const auto least = rows.min().item<int64_t>(), greatest = rows.max().item<int64_t>();
    pass.vector_of = rows - least;
    const Tensor vectors = ops::embedding(at::arange(least, greatest + 1, at::kLong), *distances_, call);
    return distance_norm_ ? ops::normalised(vectors, *distance_norm_, call) : vectors;
  }

  // x [tokens, hidden] -> the same of all tokens or of the rows' first ones. `distances` [vectors, hidden] or
  // undefined.
  Tensor run_block(const Tensor& x, const Tensor& distances, const Block& block, const Pass& pass, bool firsts_only,
                   Call& call) const {
    const double p = config_.hidden_dropout_prob;
    const Tensor asking = firsts_only ? pass.padding.firsts(x) : x;
    const Tensor mixed = ops::dropout(attend(asking, x, distances, block, pass, call), p, call);
    const Tensor mapped = ops::mapped_output(mixed, *block.attention_output, call);
    const Tensor attended = ops::add_normalised(mapped, asking, *block.attention_norm, call).normalised;
    const Tensor inner = ops::linear(attended, *block.intermediate, call);
    const Tensor fed = ops::dropout(ops::activated_linear(activation_, inner, {}, *block.output, call), p, call);
    return ops::add_normalised(ops::mapped_output(fed, *block.output, call), attended, *block.output_norm, call)
        .normalised;
  }

  // `asking` are the tokens that attend: those of x or the rows' first ones.
  Tensor attend(const Tensor& asking, const Tensor& x, const Tensor& distances, const Block& block, const Pass& pass,
                Call& call) const {
    const Padding& padding = pass.padding;
    const bool all_ask = asking.is_same(x);
    std::vector<Tensor> qkv;
    if (all_ask) {
      qkv = ops::linear_group(x, {block.query, block.key, block.value}, call);
    } else {
      qkv = ops::linear_group(x, {block.key, block.value}, call);
      qkv.insert(qkv.begin(), ops::linear(asking, *block.query, call));
    }
    qkv[0] = all_ask ? padding.add(qkv[0]) : qkv[0].unsqueeze(1);
    qkv[1] = padding.add(qkv[1]);
    qkv[2] = padding.add(qkv[2]);
    const auto by_head = [&](const Tensor& t) { return split(t).transpose(1, 2); };
    const ops::DistanceVectors vectors = vectors_of(distances, block, pass, call);
    const Tensor mixed = ops::disentangled_attention(
        by_head(qkv[0]), by_head(qkv[1]), by_head(qkv[2]), vectors, {.bias = pass.mask},
        {.scale = config_.score_scale(), .dropout = config_.attention_probs_dropout_prob}, call);
    const Tensor flat = mixed.transpose(1, 2).flatten(2);
    return ops::linear(all_ask ? padding.remove(flat) : flat.squeeze(1), *block.attention_output, call);
  }

  Tensor split(const Tensor& x) const { return x.unflatten(-1, {config_.num_attention_heads, -1}); }

  // Keys and queries of the distances.
  ops::DistanceVectors vectors_of(const Tensor& distances, const Block& block, const Pass& pass, Call& call) const {
    std::vector<const Linear*> layers;
    for (const Linear* layer : {block.distance_key, block.distance_query}) {
      if (layer) layers.push_back(layer);
    }
    if (layers.empty()) return {};
    const Tensor own = ops::dropout(distances, config_.hidden_dropout_prob, call);
    const std::vector<Tensor> vectors = ops::linear_group(own, layers, call);
    return {.keys = block.distance_key ? split(vectors.front()) : Tensor(),
            .queries = block.distance_query ? split(vectors.back()) : Tensor(),
            .vector_of = pass.vector_of};
  }

  // The embeddings' neighbours added to the first block's output y [tokens, hidden].
  Tensor convolve(const Tensor& embedded, const Tensor& y, const Pass& pass, Call& call) const {
    const auto value = [&](const Parameter& p) {
      return (call.adapter ? call.adapter->value(p) : p.value).to(embedded.scalar_type());
    };
    const Tensor mixed = at::conv1d(embedded.transpose(1, 2), value(conv_->weight), value(conv_->bias), {1},
                                    {config_.conv_kernel_size / 2}, {1}, config_.conv_groups)
                             .transpose(1, 2);
    const Tensor own = ops::dropout(pass.padding.remove(mixed.contiguous()), config_.hidden_dropout_prob, call);
    return ops::add_normalised((*conv_activation_)(own), y, *conv_norm_, call).normalised;
  }

  DebertaConfig config_;
  const Embedding *word_, *position_ = nullptr, *type_ = nullptr, *distances_ = nullptr;
  const Linear* projection_ = nullptr;
  const Norm *embedding_norm_, *distance_norm_ = nullptr, *conv_norm_ = nullptr;
  const Layer* conv_ = nullptr;
  std::vector<Block> blocks_;
  ops::Activation activation_;
  std::optional<ops::Activation> conv_activation_;
};

class DebertaV2 final : public EncoderModel {
 public:
  explicit DebertaV2(const FamilyInput& input) {
    const ConfigValues values = config_of(input);
    const DebertaConfig c(values);
    Loader load(*this, input, "deberta");
    auto encoder = std::make_unique<DebertaEncoder>(load, c);
    const Embedding& words = encoder->words();
    encoder_ = std::move(encoder);
    vocab_size_ = c.vocab_size;
    type_vocab_size_ = c.type_vocab_size;
    max_positions_ = c.max_position_embeddings;
    position_table_ = c.position_biased_input;
    // Its attention has no place for a prefix.
    shape_ = {.layers = c.num_hidden_layers,
              .hidden = c.hidden_size,
              .heads = c.num_attention_heads,
              .word_embeddings = words.weight.value};

    const int64_t d = c.hidden_size;
    const std::string& task = load.head_spec().task_type;
    if (task != "SEQ_CLS") reads_ = Reads::every;
    if (task == "SEQ_CLS") {
      layers_.dropout(c.pooler_dropout)
          .linear(load.head("pooler.dense", d, d, c.initializer_range))
          .activation(c.pooler_hidden_act, "pooler_hidden_act")
          .dropout(c.cls_dropout)
          .linear(load.head("classifier", num_labels(), d, c.initializer_range));
    } else if (task == "fill-mask") {
      layers_ = masked_lm_head(load, masked_form(values, c, *input.checkpoint), words);
    } else if (!load.head_spec().module.empty()) {
      layers_.last(load, num_labels(), d, c.initializer_range, c.hidden_dropout_prob);
    }
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
                      .d_in = c.hidden_size,
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

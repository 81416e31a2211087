#include "models/encoder.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "deltaw/active_updates.h"
#include "deltaw/error.h"
#include "models/config_values.h"
#include "ops/attention/attention.h"
#include "ops/checkpoint.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"
#include "ops/norms.h"

namespace deltaw {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& fix) {
  throw Error({.id = "config.unsupported", .what = what, .where = where, .fix = fix});
}

}  // namespace

EncoderConfig EncoderConfig::from_json(const ConfigValues& values, int64_t pad_token_id) {
  const std::string& where = values.where();
  EncoderConfig c;
  c.vocab_size = values.size("vocab_size");
  c.hidden_size = values.size("hidden_size");
  c.embedding_size = c.hidden_size;
  c.num_hidden_layers = values.layers("num_hidden_layers");
  c.num_attention_heads = values.size("num_attention_heads");
  c.intermediate_size = values.size("intermediate_size");
  c.max_position_embeddings = values.size("max_position_embeddings");
  c.type_vocab_size = values.size_or("type_vocab_size", 2);
  c.pad_token_id = values.has("pad_token_id") ? values.token("pad_token_id") : pad_token_id;
  c.padding_idx = values.padding_row(c.vocab_size, pad_token_id);
  c.layer_norm_eps = values.not_negative_or("layer_norm_eps", c.layer_norm_eps);
  c.initializer_range = values.not_negative_or("initializer_range", c.initializer_range);
  c.hidden_dropout_prob = values.dropout_or("hidden_dropout_prob", c.hidden_dropout_prob);
  c.attention_probs_dropout_prob = values.dropout_or("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  c.classifier_dropout = values.dropout_or("classifier_dropout", c.hidden_dropout_prob);
  c.hidden_act = values.get_or<std::string>("hidden_act", c.hidden_act);
  c.tie_word_embeddings = values.get_or("tie_word_embeddings", c.tie_word_embeddings);

  if (c.hidden_size % c.num_attention_heads != 0) {
    refuse(fmt::format("hidden_size {} is no multiple of num_attention_heads {}", c.hidden_size, c.num_attention_heads),
           where, "use the config.json that belongs to the checkpoint");
  }
  if (const auto type = values.get_or<std::string>("position_embedding_type", "absolute"); type != "absolute") {
    refuse("position_embedding_type '" + type + "' is not implemented", where, "supported: absolute");
  }
  if (values.get_or("is_decoder", false) || values.get_or("add_cross_attention", false)) {
    refuse("a decoder (is_decoder, add_cross_attention) is not implemented in this family", where,
           "use an encoder checkpoint");
  }
  return c;
}

void EncoderConfig::check_positions_after_padding(const ConfigValues& values) const {
  const int64_t id = pad_token_id;
  if (id >= -1 && id < vocab_size && id + 1 < max_position_embeddings) return;
  values.refuse("pad_token_id", fmt::format("a token of the vocabulary ({}) that leaves positions free (of {})",
                                            vocab_size, max_position_embeddings));
}

FamilySpec encoder_family(FamilySpec own) {
  own.lora_target_modules = {"query", "value"};
  own.ia3_target_modules = {"key", "value", "output.dense"};
  own.ia3_feedforward_modules = {"output.dense"};
  own.sublayer_outputs = {"output.dense"};
  own.feedforward_outputs = ".*\\.layer\\.\\d+\\.output\\.dense";  // and not attention.output.dense
  return own;
}

std::vector<HeadSpec> encoder_heads(const std::string& name, const std::string& weight, const std::string& masked,
                                    const std::string& answers) {
  return {{.task_type = "SEQ_CLS",
           .architecture = name + "ForSequenceClassification",
           .module = "classifier",
           .weight = weight,
           .problem_type = true},
          {.task_type = "TOKEN_CLS",
           .architecture = name + "ForTokenClassification",
           .module = "classifier",
           .weight = "classifier.weight"},
          {.task_type = "QUESTION_ANS",
           .architecture = name + "ForQuestionAnswering",
           .module = answers,
           .weight = answers + ".weight",
           .outputs = 2},
          {.task_type = "fill-mask", .architecture = name + "ForMaskedLM", .module = masked},
          {.task_type = "FEATURE_EXTRACTION", .architecture = name + "Model"}};
}

std::vector<std::string> numbered(const std::string& pattern, int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(fmt::format(fmt::runtime(pattern), i));
  return names;
}

Encoder::Encoder(Loader& load, const EncoderConfig& config, const EncoderNames& names)
    : config_(config), activation_(config.hidden_act) {
  const auto& c = config;
  const int64_t width = c.embedding_size;
  word_ = load.embedding(load.family().word_embeddings, c.vocab_size, width, c.padding_idx);
  position_ = load.embedding(names.embeddings + ".position_embeddings", c.max_position_embeddings, width);
  if (c.type_vocab_size > 0)
    type_ = load.embedding(names.embeddings + ".token_type_embeddings", c.type_vocab_size, width);
  embedding_norm_ = load.layer_norm(names.embeddings + ".LayerNorm", width, c.layer_norm_eps);
  if (names.projects || width != c.hidden_size) projection_ = load.linear(names.projection, c.hidden_size, width);
  std::map<std::string, Block> loaded;
  for (const std::string& layer : names.layers) {
    if (!loaded.contains(layer)) loaded[layer] = load_block(load, names, layer);
    blocks_.push_back(loaded[layer]);
  }
  if (c.relative_buckets > 0)
    relative_ = load.embedding(names.relative_bias, c.relative_buckets, c.num_attention_heads);
}

Encoder::Block Encoder::load_block(Loader& load, const EncoderNames& names, const std::string& layer) const {
  const int64_t d = config_.hidden_size, inner = config_.intermediate_size;
  const auto linear = [&](const std::string& name, int64_t d_out, int64_t d_in) {
    return load.linear(layer + "." + name, d_out, d_in);
  };
  const auto norm = [&](const std::string& name) {
    return load.layer_norm(layer + "." + name, d, config_.layer_norm_eps);
  };
  Block block{};
  block.query = linear(names.query, d, d);
  block.key = linear(names.key, d, d);
  block.value = linear(names.value, d, d);
  block.attention_output = linear(names.attention_output, d, d);
  block.attention_norm = norm(names.attention_norm);
  block.intermediate = linear(names.intermediate, inner, d);
  block.output = linear(names.output, d, inner);
  block.output_norm = norm(names.output_norm);
  return block;
}

ModelShape Encoder::shape() const {
  return {.layers = static_cast<int64_t>(blocks_.size()),
          .hidden = config_.hidden_size,
          .heads = config_.num_attention_heads,
          .prefix_heads = config_.num_attention_heads,
          .prefix_width = config_.hidden_size,
          .word_embeddings = word_->weight.value};
}

// A prefix has no hidden states, yet the text's positions begin behind it.
Tensor Encoder::positions(const Tensor& ids, const VirtualTokens& before) const {
  const int64_t rows = ids.size(0), n = before.count(), end = n + ids.size(1);
  const int64_t begin = before.prefix.defined() ? n : 0;
  if (!config_.positions_after_padding) return at::arange(begin, end, ids.options()).expand({rows, -1});
  // They count the tokens, a prefix among them; padding itself stays at its id. Behind embeddings, which have no ids,
  // transformers counts the padding too.
  const int64_t padding = config_.pad_token_id;
  if (before.embeddings.defined()) return (at::arange(end, ids.options()) + padding + 1).expand({rows, -1});
  const Tensor token = ids.ne(padding).to(at::kLong);
  return (token.cumsum(1) + n) * token + padding;
}

Tensor Encoder::embed(const ModelInput& input, const VirtualTokens& before, const Call& call) const {
  const Tensor& prompt = before.embeddings;
  Tensor words = ops::embedding(input.input_ids, *word_, call);
  const bool typed = input.token_type_ids.defined() && config_.type_vocab_size > 1;
  Tensor types = typed ? input.token_type_ids : at::zeros_like(input.input_ids);
  if (prompt.defined()) {
    const int64_t rows = words.size(0), n = prompt.size(0);
    words = at::cat({prompt.to(words.scalar_type()).expand({rows, -1, -1}), words}, 1);
    types = at::cat({at::zeros({rows, n}, types.options()), types}, 1);
  }
  if (type_) words = words + ops::embedding(types, *type_, call);
  return words + ops::embedding(positions(input.input_ids, before), *position_, call);
}

namespace {

// Buckets of distances, half of them for keys after the query: near ones have their own, far ones share by the
// logarithm (Raffel et al. 2020, arXiv:1910.10683, section 2.1).
Tensor distance_buckets(int64_t length, int64_t buckets) {
  constexpr int64_t kFurthest = 128;
  const int64_t half = buckets / 2, exact = half / 2;
  const Tensor places = at::arange(length, at::kLong);
  const Tensor after = places.unsqueeze(0) - places.unsqueeze(1);  // key - query
  const Tensor distance = after.abs();
  const Tensor far =
      (at::log(distance.to(at::kFloat) / static_cast<double>(exact)) /
       std::log(static_cast<double>(kFurthest) / static_cast<double>(exact)) * static_cast<double>(half - exact))
          .clamp_min(0)
          .to(at::kLong) +
      exact;
  return after.gt(0).to(at::kLong) * half + at::where(distance.lt(exact), distance, far.clamp_max(half - 1));
}

}  // namespace

// [1, heads, length, virtual_length + length]: keys of a prefix have no distance.
Tensor Encoder::relative_bias(int64_t length, int64_t virtual_length, const Call& call) const {
  const Tensor buckets = distance_buckets(length, kDistanceBuckets);
  const Tensor bias = ops::embedding(buckets, *relative_, call).permute({2, 0, 1}).unsqueeze(0);
  return virtual_length == 0 ? bias : at::constant_pad_nd(bias, {virtual_length, 0});
}

// `asking` are the tokens that attend: those of the input or the rows' first ones.
Tensor Encoder::attend(const Tensor& asking, const std::vector<Tensor>& inputs, const Block& block, const Pass& pass,
                       Call& call) const {
  const Tensor &input = inputs[0], &prefix = inputs[1], &relative = inputs[2];
  const Padding& padding = pass.padding;
  const int64_t heads = config_.num_attention_heads, width = config_.hidden_size / heads;
  const bool all_ask = asking.is_same(input);
  std::vector<Tensor> qkv;
  if (all_ask) {
    qkv = ops::linear_group(input, {block.query, block.key, block.value}, call);
  } else {
    qkv = ops::linear_group(input, {block.key, block.value}, call);
    qkv.insert(qkv.begin(), ops::linear(asking, *block.query, call));
  }
  qkv[0] = all_ask ? padding.add(qkv[0]) : qkv[0].unsqueeze(1);
  qkv[1] = padding.add(qkv[1]);
  qkv[2] = padding.add(qkv[2]);
  if (prefix.defined()) {
    const auto before = [&](int64_t which, const Tensor& own) {
      const Tensor rows = prefix.select(1, which).to(own.scalar_type()).expand({own.size(0), -1, -1});
      return at::cat({rows, own}, 1);
    };
    qkv[1] = before(0, qkv[1]);
    qkv[2] = before(1, qkv[2]);
  }
  Tensor bias = pass.mask;
  if (relative.defined()) {
    const Tensor own = all_ask ? relative : relative.narrow(2, 0, 1);
    bias = bias.defined() ? bias + own : own;
  }
  const auto split = [&](const Tensor& t) { return t.view({t.size(0), t.size(1), heads, width}).transpose(1, 2); };
  const Tensor mixed = ops::attention(split(qkv[0]), split(qkv[1]), split(qkv[2]), {.bias = bias},
                                      {.dropout = config_.attention_probs_dropout_prob}, call)
                           .transpose(1, 2)
                           .flatten(2);
  return ops::linear(all_ask ? padding.remove(mixed) : mixed.squeeze(1), *block.attention_output, call);
}

Tensor Encoder::run_block(const std::vector<Tensor>& inputs, const Block& block, const Pass& pass, bool firsts_only,
                          Call& call) const {
  const double p = config_.hidden_dropout_prob;
  const Tensor asking = firsts_only ? pass.padding.firsts(inputs[0]) : inputs[0];
  Tensor mixed = attend(asking, inputs, block, pass, call);
  if (config_.attention_output_dropout) mixed = ops::dropout(mixed, p, call);
  const Tensor mapped = ops::mapped_output(mixed, *block.attention_output, call);
  const Tensor x = ops::add_normalised(mapped, asking, *block.attention_norm, call).normalised;
  const Tensor inner = ops::linear(x, *block.intermediate, call);
  Tensor fed = ops::activated_linear(activation_, inner, {}, *block.output, call);
  if (config_.output_dropout) fed = ops::dropout(fed, p, call);
  return ops::add_normalised(ops::mapped_output(fed, *block.output, call), x, *block.output_norm, call).normalised;
}

Tensor Encoder::states(const ModelInput& input, Reads reads, Call& call) const {
  const VirtualTokens before = virtual_tokens_of(call, input, config_.max_positions());
  const int64_t n = before.count(), prompts = before.embeddings.defined() ? n : 0;
  const auto behind = [&](int64_t count) {
    const Tensor& own = input.attention_mask;
    return count > 0 ? at::cat({at::ones({own.size(0), count}, own.options()), own}, 1) : own;
  };
  Tensor x = embed(input, before, call);
  const Pass pass{.padding = Padding(behind(prompts)), .mask = ops::attention_bias(behind(n), x.scalar_type())};
  const Tensor relative = relative_ ? relative_bias(x.size(1), n - prompts, call) : Tensor();
  x = ops::dropout(ops::normalised(pass.padding.remove(x), *embedding_norm_, call), config_.hidden_dropout_prob, call);
  if (projection_) x = ops::linear(x, *projection_, call);
  const auto last = static_cast<int64_t>(blocks_.size()) - 1;
  for (int64_t i = 0; i <= last; ++i) {
    const Tensor& all = before.prefix;
    // An observer is to see every token.
    const bool firsts_only = i == last && reads == Reads::first && !call.observer;
    const auto block = [this, i, pass, firsts_only](const std::vector<Tensor>& inputs, Call& own) {
      return run_block(inputs, blocks_[i], pass, firsts_only, own);
    };
    x = ops::checkpointed(block, {x, all.defined() ? all.select(1, i) : Tensor(), relative}, call);
  }
  if (reads == Reads::first) return call.observer ? pass.padding.firsts(x) : x;
  return pass.padding.add(x).narrow(1, prompts, input.input_ids.size(1));
}

const Encoder& EncoderFamilyModel::load_encoder(Loader& load, const EncoderConfig& config, const EncoderNames& names) {
  auto encoder = std::make_unique<Encoder>(load, config, names);
  const Encoder& loaded = *encoder;
  encoder_ = std::move(encoder);
  shape_ = loaded.shape();
  vocab_size_ = config.vocab_size;
  type_vocab_size_ = config.type_vocab_size;
  max_positions_ = config.max_positions();
  position_table_ = true;
  return loaded;
}

void EncoderFamilyModel::load_token_head(Loader& load, const EncoderConfig& config, const Encoder& encoder,
                                         MaskedLmForm masked, double p, double answers_p) {
  reads_ = Reads::every;
  if (load.head_spec().module.empty()) return;
  if (!load.head_spec().weight.empty()) {
    layers_.last(load, num_labels(), config.hidden_size, config.initializer_range, p, answers_p);
    return;
  }
  masked.d_in = config.hidden_size;
  masked.eps = config.layer_norm_eps;
  masked.tied = config.tie_word_embeddings;
  layers_ = masked_lm_head(load, masked, encoder.words());
}

VirtualTokens virtual_tokens_of(const Call& call, const ModelInput& input, int64_t max_positions) {
  VirtualTokens tokens = call.adapter ? call.adapter->virtual_tokens() : VirtualTokens{};
  const int64_t length = input.input_ids.size(1), n = tokens.count();
  if (length + n <= max_positions) return tokens;
  throw Error({.id = "data.too-long",
               .what = fmt::format("a row has {} tokens{}, the model has {} positions", length,
                                   n > 0 ? fmt::format(" behind {} virtual ones", n) : "", max_positions),
               .where = "the batch",
               .fix = fmt::format("--max_length {}", max_positions - n)});
}

}  // namespace deltaw

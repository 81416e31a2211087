#include "models/encoder.h"

#include <fmt/format.h>

#include "deltaw/adapter.h"
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

FamilySpec encoder_family(FamilySpec own) {
  own.lora_target_modules = {"query", "value"};
  own.ia3_target_modules = {"key", "value", "output.dense"};
  own.ia3_feedforward_modules = {"output.dense"};
  own.sublayer_outputs = {"output.dense"};
  own.feedforward_outputs = ".*\\.layer\\.\\d+\\.output\\.dense";  // and not attention.output.dense
  return own;
}

Encoder::Encoder(Loader& load, const EncoderConfig& config, const std::string& prefix)
    : config_(config), activation_(config.hidden_act) {
  const auto& c = config;
  word_ = load.embedding(load.family().word_embeddings, c.vocab_size, c.hidden_size, c.padding_idx);
  position_ = load.embedding(prefix + ".embeddings.position_embeddings", c.max_position_embeddings, c.hidden_size);
  type_ = load.embedding(prefix + ".embeddings.token_type_embeddings", c.type_vocab_size, c.hidden_size);
  embedding_norm_ = load.layer_norm(prefix + ".embeddings.LayerNorm", c.hidden_size, c.layer_norm_eps);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string p = fmt::format("{}.encoder.layer.{}", prefix, i);
    Block block;
    block.query = load.linear(p + ".attention.self.query", c.hidden_size, c.hidden_size);
    block.key = load.linear(p + ".attention.self.key", c.hidden_size, c.hidden_size);
    block.value = load.linear(p + ".attention.self.value", c.hidden_size, c.hidden_size);
    block.attention_output = load.linear(p + ".attention.output.dense", c.hidden_size, c.hidden_size);
    block.attention_norm = load.layer_norm(p + ".attention.output.LayerNorm", c.hidden_size, c.layer_norm_eps);
    block.intermediate = load.linear(p + ".intermediate.dense", c.intermediate_size, c.hidden_size);
    block.output = load.linear(p + ".output.dense", c.hidden_size, c.intermediate_size);
    block.output_norm = load.layer_norm(p + ".output.LayerNorm", c.hidden_size, c.layer_norm_eps);
    blocks_.push_back(block);
  }
}

ModelShape Encoder::shape() const {
  return {.layers = config_.num_hidden_layers,
          .hidden = config_.hidden_size,
          .heads = config_.num_attention_heads,
          .prefix_heads = config_.num_attention_heads,
          .prefix_width = config_.hidden_size,
          .word_embeddings = word_->weight.value};
}

// `asking` are the tokens that attend: those of `input` or the rows' first ones.
Tensor Encoder::attend(const Tensor& input, const Tensor& asking, const Padding& padding, const Block& block,
                       const Tensor& prefix, const Tensor& mask, Call& call) const {
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
  const auto split = [&](const Tensor& t) { return t.view({t.size(0), t.size(1), heads, width}).transpose(1, 2); };
  const Tensor mixed = ops::attention(split(qkv[0]), split(qkv[1]), split(qkv[2]), {.bias = mask},
                                      {.dropout = config_.attention_probs_dropout_prob}, call)
                           .transpose(1, 2)
                           .flatten(2);
  return ops::linear(all_ask ? padding.remove(mixed) : mixed.squeeze(1), *block.attention_output, call);
}

Tensor Encoder::embed(const ModelInput& input, const Tensor& prompt, const Tensor& position_ids,
                      const Call& call) const {
  Tensor words = ops::embedding(input.input_ids, *word_, call);
  const bool typed = input.token_type_ids.defined() && config_.type_vocab_size > 1;
  Tensor types = typed ? input.token_type_ids : at::zeros_like(input.input_ids);
  if (prompt.defined()) {
    const int64_t rows = words.size(0), n = prompt.size(0);
    words = at::cat({prompt.to(words.scalar_type()).expand({rows, -1, -1}), words}, 1);
    types = at::cat({at::zeros({rows, n}, types.options()), types}, 1);
  }
  return words + ops::embedding(types, *type_, call) + ops::embedding(position_ids, *position_, call);
}

Tensor Encoder::run_block(const Tensor& input, const Padding& padding, const Block& block, const Tensor& prefix,
                          const Tensor& mask, bool firsts_only, Call& call) const {
  const double p = config_.hidden_dropout_prob;
  const Tensor asking = firsts_only ? padding.firsts(input) : input;
  const Tensor mixed = ops::dropout(attend(input, asking, padding, block, prefix, mask, call), p, call);
  const Tensor mapped = ops::mapped_output(mixed, *block.attention_output, call);
  const Tensor x = ops::add_normalised(mapped, asking, *block.attention_norm, call).normalised;
  const Tensor inner = ops::linear(x, *block.intermediate, call);
  const Tensor fed = ops::dropout(ops::activated_linear(activation_, inner, {}, *block.output, call), p, call);
  return ops::add_normalised(ops::mapped_output(fed, *block.output, call), x, *block.output_norm, call).normalised;
}

Tensor Encoder::first_states(const ModelInput& input, const VirtualTokens& virtual_tokens, const Tensor& position_ids,
                             Call& call) const {
  Tensor x = embed(input, virtual_tokens.embeddings, position_ids, call);
  const auto behind = [&](int64_t n) {
    const Tensor& own = input.attention_mask;
    return n > 0 ? at::cat({at::ones({own.size(0), n}, own.options()), own}, 1) : own;
  };
  const Tensor mask = ops::attention_bias(behind(virtual_tokens.count()), x.scalar_type());
  const Padding padding(behind(virtual_tokens.embeddings.defined() ? virtual_tokens.count() : 0));
  x = ops::dropout(ops::normalised(padding.remove(x), *embedding_norm_, call), config_.hidden_dropout_prob, call);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Tensor& all = virtual_tokens.prefix;
    const bool firsts_only = i + 1 == config_.num_hidden_layers && !call.observer;  // which is to see every token
    const auto block = [this, i, padding, mask, firsts_only](const std::vector<Tensor>& inputs, Call& own) {
      return run_block(inputs[0], padding, blocks_[i], inputs[1], mask, firsts_only, own);
    };
    x = ops::checkpointed(block, {x, all.defined() ? all.select(1, i) : Tensor()}, call);
  }
  return call.observer ? padding.firsts(x) : x;
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

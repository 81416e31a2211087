#include "models/clip_text.h"

#include <fmt/format.h>

#include "deltaw/error.h"
#include "models/causal.h"
#include "ops/layers.h"
#include "ops/linear/linear.h"

namespace deltaw {
namespace {

Block load_block(Loader& load, const ClipTextConfig& c, const std::string& layer) {
  const int64_t d = c.hidden_size;
  const auto projection = [&](const char* name) { return load.linear(layer + "self_attn." + name, d, d); };
  const auto norm = [&](const char* name) { return load.layer_norm(layer + name, d, c.layer_norm_eps); };
  // Braces load the tensors in the order in which they stand here.
  Block block{.norms_first = true};
  block.attention_norm = norm("layer_norm1");
  block.attention = {.qkv = {projection("q_proj"), projection("k_proj"), projection("v_proj")},
                     .heads = c.num_attention_heads,
                     .key_heads = c.num_attention_heads,
                     .width = d / c.num_attention_heads,
                     .form = {.dropout = c.attention_dropout},
                     .output = {.layer = projection("out_proj")}};
  block.feed_forward_norm = norm("layer_norm2");
  block.feed_forward = {.inner = {load.linear(layer + "mlp.fc1", c.intermediate_size, d)},
                        .activation = ops::Activation(c.hidden_act),
                        .output = {.layer = load.linear(layer + "mlp.fc2", d, c.intermediate_size)}};
  return block;
}

}  // namespace

ClipTextConfig ClipTextConfig::from_json(const ConfigValues& values) {
  ClipTextConfig c;
  c.vocab_size = values.size("vocab_size");
  c.hidden_size = values.size("hidden_size");
  c.num_hidden_layers = values.layers("num_hidden_layers");
  c.num_attention_heads = values.size("num_attention_heads");
  c.intermediate_size = values.size("intermediate_size");
  c.max_position_embeddings = values.size("max_position_embeddings");
  c.layer_norm_eps = values.not_negative_or("layer_norm_eps", c.layer_norm_eps);
  c.attention_dropout = values.dropout_or("attention_dropout", 0);
  c.hidden_act = values.get<std::string>("hidden_act");
  if (c.hidden_size % c.num_attention_heads != 0) {
    values.refuse("num_attention_heads", fmt::format("a divisor of hidden_size {}", c.hidden_size));
  }
  return c;
}

ClipTextEncoder::ClipTextEncoder(Loader& load, const ClipTextConfig& config, const std::string& base)
    : causal_(config.causal) {
  words_ = load.embedding(base + ".embeddings.token_embedding", config.vocab_size, config.hidden_size);
  positions_ =
      load.embedding(base + ".embeddings.position_embedding", config.max_position_embeddings, config.hidden_size);
  max_positions_ = config.max_position_embeddings;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    blocks_.push_back(load_block(load, config, fmt::format("{}.encoder.layers.{}.", base, i)));
  }
  final_norm_ = load.layer_norm(base + ".final_layer_norm", config.hidden_size, config.layer_norm_eps);
}

// Positions count every place of a row, padding on the left too.
Tensor ClipTextEncoder::embed(const ModelInput& input, const VirtualTokens& /*before*/, Pass& pass, Call& call) const {
  const Tensor places = at::arange(input.input_ids.size(1), input.input_ids.options());
  if (causal_) pass.causal = causal_pass(input, /*window=*/0, call).full.causal;
  return pass.padding.remove(ops::embedding(input.input_ids, *words_, call) +
                             ops::embedding(places, *positions_, call));
}

Tensor ClipTextEncoder::run(const Tensor& x, BlockInput input, const Pass& /*pass*/, Call& call) const {
  return blocks_[static_cast<size_t>(input.layer)](x, input, call);
}

ClipTextPart::ClipTextPart(const FamilyInput& input, const ClipTextConfig& config,
                           const std::vector<std::string>& others)
    : config_(config) {
  const std::string base = "text_model";
  Loader load(*this, input, base);
  encoder_ = std::make_unique<ClipTextEncoder>(load, config, base);
  if (config.head_size > 0) head_layer_ = load.linear(base + ".head", config.head_size, config.hidden_size);
  load.finish(others);
  vocab_size_ = config.vocab_size;
  max_positions_ = config.max_position_embeddings;
  position_table_ = true;
  shape_ = {.layers = config.num_hidden_layers, .hidden = config.hidden_size, .heads = config.num_attention_heads};
}

// Of the tokens that are pooled. Configurations of eos_token_id 2 are older than that key: there the end of a text is
// the token of the highest id.
Tensor ClipTextPart::places(const Tensor& ids) const {
  if (config_.eos_token_id == 2) return ids.argmax(1);
  return ids.eq(config_.eos_token_id).to(at::kLong).argmax(1);
}

Tensor ClipTextPart::features(const ModelInput& input, Call& call) const {
  const Tensor& ids = input.input_ids;
  if (!config_.last) {
    const Tensor states = encoder_->states(input, Reads::every, call);
    return states.index({at::arange(ids.size(0), ids.options()), places(ids)});
  }
  if (ids.size(1) != text_length()) {
    throw Error({.id = "data.text-length",
                 .what = fmt::format("a text has {} tokens, and this model reads texts that are padded to {}",
                                     ids.size(1), text_length()),
                 .where = "the batch",
                 .fix = fmt::format("pad or cut every text to {} tokens", text_length())});
  }
  const ModelInput whole{.input_ids = ids, .attention_mask = at::ones_like(input.attention_mask)};
  return encoder_->states(whole, Reads::every, call).select(1, ids.size(1) - 1);
}

Tensor ClipTextPart::logits(const Tensor& features, Call& call) const {
  return head_layer_ ? ops::linear(features, *head_layer_, call) : features;
}

}  // namespace deltaw

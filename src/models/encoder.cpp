#include "models/encoder.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "deltaw/error.h"
#include "models/virtual_tokens.h"
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
          {.task_type = "multiple-choice",
           .architecture = name + "ForMultipleChoice",
           .module = "classifier",
           .weight = "classifier.weight",
           .outputs = 1},
          {.task_type = "fill-mask", .architecture = name + "ForMaskedLM", .module = masked},
          {.task_type = "FEATURE_EXTRACTION", .architecture = name + "Model"}};
}

std::vector<std::string> numbered(const std::string& pattern, int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(fmt::format(fmt::runtime(pattern), i));
  return names;
}

Block EncoderConfig::block() const {
  return {.attention = {.heads = num_attention_heads,
                        .key_heads = num_attention_heads,
                        .width = hidden_size / num_attention_heads,
                        .form = {.dropout = attention_probs_dropout_prob},
                        .output = {.dropout = attention_output_dropout ? hidden_dropout_prob : 0}},
          .feed_forward = {.activation = ops::Activation(hidden_act),
                           .output = {.dropout = output_dropout ? hidden_dropout_prob : 0}}};
}

namespace {

Block load_block(Loader& load, Block block, const EncoderConfig& c, const EncoderNames& names,
                 const std::string& layer) {
  const int64_t d = c.hidden_size, inner = c.intermediate_size;
  const auto linear = [&](const std::string& name, int64_t d_out, int64_t d_in) {
    return load.linear(layer + "." + name, d_out, d_in);
  };
  const auto norm = [&](const std::string& name) { return load.layer_norm(layer + "." + name, d, c.layer_norm_eps); };
  block.attention.qkv = {linear(names.query, d, d), linear(names.key, d, d), linear(names.value, d, d)};
  block.attention.output.layer = linear(names.attention_output, d, d);
  block.attention_norm = norm(names.attention_norm);
  block.feed_forward.inner = {linear(names.intermediate, inner, d)};
  block.feed_forward.output.layer = linear(names.output, d, inner);
  block.feed_forward_norm = norm(names.output_norm);
  return block;
}

}  // namespace

Encoder::Encoder(Loader& load, const EncoderConfig& config, const EncoderNames& names) : config_(config) {
  const auto& c = config;
  const Block empty = c.block();
  const int64_t width = c.embedding_size;
  const std::string embeddings = names.base + ".embeddings.";
  max_positions_ = c.max_positions();
  words_ = load.embedding(load.family().word_embeddings, c.vocab_size, width, c.padding_idx);
  positions_ = load.embedding(embeddings + "position_embeddings", c.max_position_embeddings, width);
  if (c.type_vocab_size > 0) types_ = load.embedding(embeddings + "token_type_embeddings", c.type_vocab_size, width);
  embedding_norm_ = load.layer_norm(embeddings + "LayerNorm", width, c.layer_norm_eps);
  if (names.projects || width != c.hidden_size) projection_ = load.linear(names.projection, c.hidden_size, width);
  std::map<std::string, Block> loaded;
  for (const std::string& layer : names.layers) {
    if (!loaded.contains(layer)) loaded.emplace(layer, load_block(load, empty, c, names, layer));
    blocks_.push_back(loaded.at(layer));
  }
  if (c.relative_buckets > 0)
    relative_ = load.embedding(names.relative_bias, c.relative_buckets, c.num_attention_heads);
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

Tensor Encoder::embed(const ModelInput& input, const VirtualTokens& before, Pass& pass, Call& call) const {
  Tensor x = behind_prompt(before.embeddings, ops::embedding(input.input_ids, *words_, call));
  if (types_) x = x + ops::embedding(types_of(input, pass, config_.type_vocab_size), *types_, call);
  x = x + ops::embedding(positions(input.input_ids, before), *positions_, call);
  if (relative_) pass.shared = {relative_bias(x.size(1), before.count() - pass.prompts, call)};
  x = ops::normalised(pass.padding.remove(x), *embedding_norm_, call);
  x = ops::dropout(x, config_.hidden_dropout_prob, call);
  return projection_ ? ops::linear(x, *projection_, call) : x;
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

// [1, heads, length, prefix_length + length]: keys of a prefix have no distance.
Tensor Encoder::relative_bias(int64_t length, int64_t prefix_length, const Call& call) const {
  const Tensor buckets = distance_buckets(length, kDistanceBuckets);
  const Tensor bias = ops::embedding(buckets, *relative_, call).permute({2, 0, 1}).unsqueeze(0);
  return prefix_length == 0 ? bias : at::constant_pad_nd(bias, {prefix_length, 0});
}

Tensor Encoder::run(const Tensor& x, BlockInput input, const Pass& pass, Call& call) const {
  if (relative_) {
    const Tensor& all = pass.shared[0];
    const Tensor own = input.firsts_only ? all.narrow(2, 0, 1) : all;
    Tensor& bias = input.mask.bias;
    bias = bias.defined() ? bias + own : own;
  }
  return blocks_[input.layer](x, input, call);
}

namespace {

class EncoderFamilyModel final : public EncoderModel {
 public:
  EncoderFamilyModel(const FamilyInput& input, const EncoderConfig& config, const EncoderNames& names,
                     const EncoderHeads& heads, const std::vector<std::string>& others) {
    Loader load(*this, input, names.base);
    take(std::make_unique<Encoder>(load, config, names),
         {.max_positions = config.max_positions(), .type_vocab_size = config.type_vocab_size, .position_table = true});
    load_head(load, heads, config.initializer_range);
    load.finish(others);
  }
};

}  // namespace

std::unique_ptr<Model> load_encoder(const FamilyInput& input, const EncoderConfig& config, const EncoderNames& names,
                                    EncoderHeads heads, const std::vector<std::string>& others) {
  heads.masked.eps = config.layer_norm_eps;
  heads.masked.tied = config.tie_word_embeddings;
  return std::make_unique<EncoderFamilyModel>(input, config, names, heads, others);
}

}  // namespace deltaw

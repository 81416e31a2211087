// ALBERT: Lan et al. 2020, arXiv:1909.11942. One layer, or a few, called many times: an adapter on it acts in every
// call, and its gradients add up. Names and dropouts as transformers' modeling_albert.
#include <fmt/format.h>

#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

// Layer by layer, the modules that compute it.
std::vector<std::string> layer_names(int64_t layers, int64_t groups, int64_t inner) {
  std::vector<std::string> names;
  const double layers_of_a_group = static_cast<double>(layers) / static_cast<double>(groups);
  for (int64_t i = 0; i < layers; ++i) {
    const auto group = static_cast<int64_t>(static_cast<double>(i) / layers_of_a_group);
    for (int64_t j = 0; j < inner; ++j) {
      names.push_back(fmt::format("albert.encoder.albert_layer_groups.{}.albert_layers.{}", group, j));
    }
  }
  return names;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  auto c = EncoderConfig::from_json(values, 0);
  c.embedding_size = values.size_or("embedding_size", 128);
  c.hidden_act = values.get_or<std::string>("hidden_act", "gelu_new");
  c.hidden_dropout_prob = values.dropout_or("hidden_dropout_prob", 0);
  c.attention_probs_dropout_prob = values.dropout_or("attention_probs_dropout_prob", 0);
  c.classifier_dropout = values.dropout_or("classifier_dropout_prob", 0.1);
  c.output_dropout = false;
  const int64_t groups = values.size_or("num_hidden_groups", 1), inner = values.size_or("inner_group_num", 1);
  if (groups > c.num_hidden_layers) {
    values.refuse("num_hidden_groups", fmt::format("at most num_hidden_layers {}", c.num_hidden_layers));
  }
  if (inner > 64) values.refuse("inner_group_num", "at most 64");
  const EncoderNames names{.base = "albert",
                           .projection = "albert.encoder.embedding_hidden_mapping_in",
                           .projects = true,
                           .layers = layer_names(c.num_hidden_layers, groups, inner),
                           .query = "attention.query",
                           .key = "attention.key",
                           .value = "attention.value",
                           .attention_output = "attention.dense",
                           .attention_norm = "attention.LayerNorm",
                           .intermediate = "ffn",
                           .output = "ffn_output",
                           .output_norm = "full_layer_layer_norm"};
  const EncoderHeads heads{.rows = {.dense = "albert.pooler", .dropout = c.classifier_dropout},
                           .masked = {.dense = "predictions.dense",
                                      .norm = "predictions.LayerNorm",
                                      .bias = "predictions.bias",
                                      .activation = c.hidden_act},
                           .pooler = "albert.pooler",
                           .token_dropout = c.classifier_dropout};
  return load_encoder(
      input, c, names, heads,
      {"predictions.", "sop_classifier.", "pooler.", "embeddings.position_ids", "embeddings.token_type_ids"});
}

}  // namespace

const FamilySpec& family_albert() {
  static const FamilySpec spec = {
      .model_type = "albert",
      .heads = encoder_heads("Albert", "classifier.weight", "predictions.decoder"),
      .word_embeddings = "albert.embeddings.word_embeddings",
      .lora_target_modules = {"query", "value"},
      .ia3_target_modules = {"key", "value", "ffn_output"},
      .ia3_feedforward_modules = {"ffn_output"},
      .sublayer_outputs = {"attention.dense", "ffn_output"},
      .feedforward_outputs = {"ffn_output"},
      .load = load,
  };
  return spec;
}

}  // namespace deltaw

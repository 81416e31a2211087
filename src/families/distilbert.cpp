// DistilBERT: Sanh et al. 2019, arXiv:1910.01108. Names and dropouts as transformers' modeling_distilbert.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

// config.json in BERT's keys.
Json settled(Json config) {
  constexpr std::pair<const char*, const char*> kNames[] = {{"dim", "hidden_size"},
                                                            {"n_layers", "num_hidden_layers"},
                                                            {"n_heads", "num_attention_heads"},
                                                            {"hidden_dim", "intermediate_size"},
                                                            {"dropout", "hidden_dropout_prob"},
                                                            {"attention_dropout", "attention_probs_dropout_prob"},
                                                            {"activation", "hidden_act"}};
  for (const auto& [own, name] : kNames) {
    if (const auto found = config.find(own); found != config.end()) config[name] = *found;
  }
  config["layer_norm_eps"] = 1e-12;
  return config;
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  auto c = EncoderConfig::from_json(values, 0);
  c.type_vocab_size = 0;
  c.attention_output_dropout = false;
  const EncoderNames names{.base = "distilbert",
                           .layers = numbered("distilbert.transformer.layer.{}", c.num_hidden_layers),
                           .query = "attention.q_lin",
                           .key = "attention.k_lin",
                           .value = "attention.v_lin",
                           .attention_output = "attention.out_lin",
                           .attention_norm = "sa_layer_norm",
                           .intermediate = "ffn.lin1",
                           .output = "ffn.lin2",
                           .output_norm = "output_layer_norm"};
  const double rows_p = values.dropout_or("seq_classif_dropout", 0.2), answers_p = values.dropout_or("qa_dropout", 0.1);
  const EncoderHeads heads{.rows = {.dense = "pre_classifier", .activation = "relu", .dropout = rows_p},
                           .masked = {.dense = "vocab_transform",
                                      .norm = "vocab_layer_norm",
                                      .bias = "vocab_projector.bias",
                                      .activation = c.hidden_act},
                           .token_dropout = c.hidden_dropout_prob,
                           .answers_dropout = answers_p};
  return load_encoder(input, c, names, heads,
                      {"vocab_transform.", "vocab_layer_norm.", "pre_classifier.", "embeddings.position_ids"});
}

}  // namespace

const FamilySpec& family_distilbert() {
  static const FamilySpec spec = {
      .model_type = "distilbert",
      .heads = encoder_heads("DistilBert", "classifier.weight", "vocab_projector"),
      .word_embeddings = "distilbert.embeddings.word_embeddings",
      .lora_target_modules = {"q_lin", "v_lin"},
      .ia3_target_modules = {"k_lin", "v_lin", "ffn.lin2"},
      .ia3_feedforward_modules = {"ffn.lin2"},
      .sublayer_outputs = {"out_lin", "ffn.lin2"},
      .feedforward_outputs = {"ffn.lin2"},
      .load = load,
      .settled = settled,
  };
  return spec;
}

}  // namespace deltaw

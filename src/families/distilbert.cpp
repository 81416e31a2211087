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

class DistilBert final : public EncoderFamilyModel {
 public:
  explicit DistilBert(const FamilyInput& input) {
    const ConfigValues values = config_of(input);
    auto c = EncoderConfig::from_json(values, 0);
    c.type_vocab_size = 0;
    c.attention_output_dropout = false;
    Loader load(*this, input, "distilbert");
    const Encoder& encoder = load_encoder(load, c,
                                          {.embeddings = "distilbert.embeddings",
                                           .layers = numbered("distilbert.transformer.layer.{}", c.num_hidden_layers),
                                           .query = "attention.q_lin",
                                           .key = "attention.k_lin",
                                           .value = "attention.v_lin",
                                           .attention_output = "attention.out_lin",
                                           .attention_norm = "sa_layer_norm",
                                           .intermediate = "ffn.lin1",
                                           .output = "ffn.lin2",
                                           .output_norm = "output_layer_norm"});
    const int64_t d = c.hidden_size;
    if (reads_first_tokens(load.head_spec())) {
      const double p = values.dropout_or("seq_classif_dropout", 0.2);
      layers_.linear(load.head("pre_classifier", d, d, c.initializer_range)).activation("relu");
      layers_.last(load, num_labels(), d, c.initializer_range, p, p);
    } else {
      load_token_head(load, c, encoder,
                      {.dense = "vocab_transform",
                       .norm = "vocab_layer_norm",
                       .bias = "vocab_projector.bias",
                       .activation = c.hidden_act},
                      c.hidden_dropout_prob, values.dropout_or("qa_dropout", 0.1));
    }
    load.finish({"vocab_transform.", "vocab_layer_norm.", "pre_classifier.", "embeddings.position_ids"});
  }
};

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
      .load = [](const FamilyInput& input) { return std::make_unique<DistilBert>(input); },
      .settled = settled,
  };
  return spec;
}

}  // namespace deltaw

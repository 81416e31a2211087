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
    const std::string& task = load.head_spec().task_type;
    if (task != "SEQ_CLS") reads_ = Reads::every;
    if (task == "SEQ_CLS") {
      layers_.linear(load.head("pre_classifier", d, d, c.initializer_range))
          .activation("relu")
          .dropout(values.dropout_or("seq_classif_dropout", 0.2))
          .linear(load.head("classifier", num_labels(), d, c.initializer_range));
    } else if (task == "TOKEN_CLS") {
      layers_.dropout(c.hidden_dropout_prob).linear(load.head("classifier", num_labels(), d, c.initializer_range));
    } else if (task == "fill-mask") {
      layers_ = masked_lm_head(load,
                               {.dense = "vocab_transform",
                                .norm = "vocab_layer_norm",
                                .bias = "vocab_projector.bias",
                                .d_in = d,
                                .activation = c.hidden_act,
                                .eps = c.layer_norm_eps,
                                .tied = c.tie_word_embeddings},
                               encoder.words());
    }
    load.finish({"vocab_transform.", "vocab_layer_norm.", "pre_classifier.", "qa_outputs.", "embeddings.position_ids"});
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

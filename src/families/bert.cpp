// BERT: Devlin et al. 2018, arXiv:1810.04805. Names and dropouts as transformers' modeling_bert.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

class Bert final : public EncoderFamilyModel {
 public:
  explicit Bert(const FamilyInput& input) {
    const auto c = EncoderConfig::from_json(config_of(input), 0);
    Loader load(*this, input, "bert");
    const Encoder& encoder = load_encoder(
        load, c, {.embeddings = "bert.embeddings", .layers = numbered("bert.encoder.layer.{}", c.num_hidden_layers)});
    const std::string& task = load.head_spec().task_type;
    if (task == "SEQ_CLS") {
      layers_.linear(load.head("bert.pooler.dense", c.hidden_size, c.hidden_size, c.initializer_range)).tanh();
    } else {
      reads_ = Reads::every;
    }
    if (task == "fill-mask") {
      layers_ = masked_lm_head(load,
                               {.dense = "cls.predictions.transform.dense",
                                .norm = "cls.predictions.transform.LayerNorm",
                                .bias = "cls.predictions.bias",
                                .d_in = c.hidden_size,
                                .activation = c.hidden_act,
                                .eps = c.layer_norm_eps,
                                .tied = c.tie_word_embeddings},
                               encoder.words());
    } else if (!load.head_spec().module.empty()) {
      layers_.dropout(c.classifier_dropout)
          .linear(load.head("classifier", num_labels(), c.hidden_size, c.initializer_range));
    }
    load.finish({"cls.", "pooler.", "embeddings.position_ids"});
  }
};

}  // namespace

const FamilySpec& family_bert() {
  static const FamilySpec spec = encoder_family({
      .model_type = "bert",
      .heads = encoder_heads("Bert", "classifier.weight", "cls.predictions.decoder"),
      .word_embeddings = "bert.embeddings.word_embeddings",
      .load = [](const FamilyInput& input) { return std::make_unique<Bert>(input); },
  });
  return spec;
}

}  // namespace deltaw

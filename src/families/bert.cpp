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
    if (reads_first_tokens(load.head_spec())) {
      load_pooled_head(load, c, "bert.pooler.dense", c.classifier_dropout);
    } else {
      load_token_head(load, c, encoder,
                      {.dense = "cls.predictions.transform.dense",
                       .norm = "cls.predictions.transform.LayerNorm",
                       .bias = "cls.predictions.bias",
                       .activation = c.hidden_act},
                      c.classifier_dropout);
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

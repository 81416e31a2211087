// BERT: Devlin et al. 2018, arXiv:1810.04805. Names and dropouts as transformers' modeling_bert.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load(const FamilyInput& input) {
  const auto c = EncoderConfig::from_json(config_of(input), 0);
  const EncoderNames names{.base = "bert", .layers = numbered("bert.encoder.layer.{}", c.num_hidden_layers)};
  const EncoderHeads heads{.rows = {.dense = "bert.pooler.dense", .dropout = c.classifier_dropout},
                           .masked = {.dense = "cls.predictions.transform.dense",
                                      .norm = "cls.predictions.transform.LayerNorm",
                                      .bias = "cls.predictions.bias",
                                      .activation = c.hidden_act},
                           .pooler = "bert.pooler.dense",
                           .token_dropout = c.classifier_dropout};
  return load_encoder(input, c, names, heads, {"cls.", "pooler.", "embeddings.position_ids"});
}

}  // namespace

const FamilySpec& family_bert() {
  static const FamilySpec spec = encoder_family({
      .model_type = "bert",
      .heads = encoder_heads("Bert", "classifier.weight", "cls.predictions.decoder"),
      .word_embeddings = "bert.embeddings.word_embeddings",
      .load = load,
  });
  return spec;
}

}  // namespace deltaw

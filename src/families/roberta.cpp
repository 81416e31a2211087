// RoBERTa: Liu et al. 2019, arXiv:1907.11692. Names and dropouts as transformers' modeling_roberta.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load(const FamilyInput& input) {
  auto c = EncoderConfig::from_json(config_of(input), 1);
  c.positions_after_padding = true;
  c.check_positions_after_padding(config_of(input));
  const double p = c.classifier_dropout;
  const EncoderNames names{.base = "roberta", .layers = numbered("roberta.encoder.layer.{}", c.num_hidden_layers)};
  const EncoderHeads heads{.rows = {.dense = "classifier.dense", .dense_dropout = p, .dropout = p},
                           .choices = RowHeadForm{.dense = "roberta.pooler.dense", .dropout = c.hidden_dropout_prob},
                           .masked = {.dense = "lm_head.dense", .norm = "lm_head.layer_norm", .bias = "lm_head.bias"},
                           .pooler = "roberta.pooler.dense",
                           .token_dropout = p};
  return load_encoder(input, c, names, heads, {"lm_head.", "pooler.", "embeddings.position_ids"});
}

}  // namespace

const FamilySpec& family_roberta() {
  static const FamilySpec spec = encoder_family({
      .model_type = "roberta",
      .heads = encoder_heads("Roberta", "classifier.out_proj.weight", "lm_head.decoder"),
      .word_embeddings = "roberta.embeddings.word_embeddings",
      .adalora_target_modules = {"query", "key", "value", "dense"},
      .load = load,
  });
  return spec;
}

}  // namespace deltaw

// ELECTRA: Clark et al. 2020, arXiv:2003.10555. Names and dropouts as transformers' modeling_electra.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

// transformers' ElectraSequenceSummary of the first token.
RowHeadForm summary_form(const ConfigValues& values) {
  values.accept_only("summary_type", "first");
  values.accept_only("summary_proj_to_labels", false);
  constexpr const char* kActivation = "summary_activation";  // null or empty: there is none
  const std::string silent = values.json().contains(kActivation) ? "" : "gelu";
  return {.dense = values.get_or("summary_use_proj", true) ? "sequence_summary.summary" : "",
          .activation = values.get_or<std::string>(kActivation, silent),
          .activation_key = kActivation,
          .dense_dropout = values.dropout_or("summary_first_dropout", 0),
          .dropout = values.dropout_or("summary_last_dropout", 0.1)};
}

std::unique_ptr<Model> load(const FamilyInput& input) {
  const ConfigValues values = config_of(input);
  auto c = EncoderConfig::from_json(values, 0);
  c.embedding_size = values.size_or("embedding_size", 128);
  const double p = c.classifier_dropout;
  const EncoderNames names{.base = "electra",
                           .projection = "electra.embeddings_project",
                           .layers = numbered("electra.encoder.layer.{}", c.num_hidden_layers)};
  const RowHeadForm summary = summary_form(values);
  const EncoderHeads heads{
      .rows = {.dense = "classifier.dense", .activation = "gelu", .dense_dropout = p, .dropout = p},
      .choices = summary,
      .masked = {.dense = "generator_predictions.dense",
                 .norm = "generator_predictions.LayerNorm",
                 .bias = "generator_lm_head.bias"},
      .token_dropout = p};
  return load_encoder(
      input, c, names, heads,
      {"generator_predictions.", "discriminator_predictions.", "sequence_summary.", "embeddings.position_ids"});
}

}  // namespace

const FamilySpec& family_electra() {
  static const FamilySpec spec = encoder_family({
      .model_type = "electra",
      .heads = encoder_heads("Electra", "classifier.out_proj.weight", "generator_lm_head"),
      .word_embeddings = "electra.embeddings.word_embeddings",
      .load = load,
  });
  return spec;
}

}  // namespace deltaw

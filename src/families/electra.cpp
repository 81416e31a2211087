// ELECTRA: Clark et al. 2020, arXiv:2003.10555. Names and dropouts as transformers' modeling_electra.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

class Electra final : public EncoderFamilyModel {
 public:
  explicit Electra(const FamilyInput& input) {
    const ConfigValues values = config_of(input);
    auto c = EncoderConfig::from_json(values, 0);
    c.embedding_size = values.size_or("embedding_size", 128);
    Loader load(*this, input, "electra");
    const Encoder& encoder = load_encoder(load, c,
                                          {.embeddings = "electra.embeddings",
                                           .projection = "electra.embeddings_project",
                                           .layers = numbered("electra.encoder.layer.{}", c.num_hidden_layers)});
    const int64_t d = c.hidden_size;
    if (load.head_spec().task_type == "SEQ_CLS") {
      layers_.dropout(c.classifier_dropout)
          .linear(load.head("classifier.dense", d, d, c.initializer_range))
          .activation("gelu")
          .dropout(c.classifier_dropout)
          .linear(load.head("classifier.out_proj", num_labels(), d, c.initializer_range));
    } else if (reads_first_tokens(load.head_spec())) {
      load_summary_head(load, values, c);
    } else {
      load_token_head(load, c, encoder,
                      {.dense = "generator_predictions.dense",
                       .norm = "generator_predictions.LayerNorm",
                       .bias = "generator_lm_head.bias"},
                      c.classifier_dropout);
    }
    load.finish(
        {"generator_predictions.", "discriminator_predictions.", "sequence_summary.", "embeddings.position_ids"});
  }

 private:
  // transformers' ElectraSequenceSummary of the first token, and one output.
  void load_summary_head(Loader& load, const ConfigValues& values, const EncoderConfig& c) {
    values.accept_only("summary_type", "first");
    values.accept_only("summary_proj_to_labels", false);
    const int64_t d = c.hidden_size;
    layers_.dropout(values.dropout_or("summary_first_dropout", 0));
    if (values.get_or("summary_use_proj", true)) {
      layers_.linear(load.head("sequence_summary.summary", d, d, c.initializer_range));
    }
    constexpr const char* kActivation = "summary_activation";  // null or empty: there is none
    const std::string none = values.json().contains(kActivation) ? "" : "gelu";
    const auto activation = values.get_or<std::string>(kActivation, none);
    if (!activation.empty()) layers_.activation(activation, kActivation);
    layers_.last(load, num_labels(), d, c.initializer_range, 0, values.dropout_or("summary_last_dropout", 0.1));
  }
};

}  // namespace

const FamilySpec& family_electra() {
  static const FamilySpec spec = encoder_family({
      .model_type = "electra",
      .heads = encoder_heads("Electra", "classifier.out_proj.weight", "generator_lm_head"),
      .word_embeddings = "electra.embeddings.word_embeddings",
      .load = [](const FamilyInput& input) { return std::make_unique<Electra>(input); },
  });
  return spec;
}

}  // namespace deltaw

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
    const std::string& task = load.head_spec().task_type;
    if (task != "SEQ_CLS") reads_ = Reads::every;
    if (task == "SEQ_CLS") {
      layers_.dropout(c.classifier_dropout)
          .linear(load.head("classifier.dense", d, d, c.initializer_range))
          .activation("gelu")
          .dropout(c.classifier_dropout)
          .linear(load.head("classifier.out_proj", num_labels(), d, c.initializer_range));
    } else if (task == "TOKEN_CLS") {
      layers_.dropout(c.classifier_dropout).linear(load.head("classifier", num_labels(), d, c.initializer_range));
    } else if (task == "fill-mask") {
      layers_ = masked_lm_head(load,
                               {.dense = "generator_predictions.dense",
                                .norm = "generator_predictions.LayerNorm",
                                .bias = "generator_lm_head.bias",
                                .d_in = d,
                                .eps = c.layer_norm_eps,
                                .tied = c.tie_word_embeddings},
                               encoder.words());
    }
    load.finish({"generator_predictions.", "discriminator_predictions.", "embeddings.position_ids"});
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

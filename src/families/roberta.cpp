// RoBERTa: Liu et al. 2019, arXiv:1907.11692. Names and dropouts as transformers' modeling_roberta.
#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

class Roberta final : public EncoderFamilyModel {
 public:
  explicit Roberta(const FamilyInput& input) {
    auto c = EncoderConfig::from_json(config_of(input), 1);
    c.positions_after_padding = true;
    c.check_positions_after_padding(config_of(input));
    Loader load(*this, input, "roberta");
    const Encoder& encoder = load_encoder(
        load, c,
        {.embeddings = "roberta.embeddings", .layers = numbered("roberta.encoder.layer.{}", c.num_hidden_layers)});
    const int64_t d = c.hidden_size;
    const std::string& task = load.head_spec().task_type;
    if (task != "SEQ_CLS") reads_ = Reads::every;
    if (task == "SEQ_CLS") {
      layers_.dropout(c.classifier_dropout).linear(load.head("classifier.dense", d, d, c.initializer_range)).tanh();
      layers_.dropout(c.classifier_dropout)
          .linear(load.head("classifier.out_proj", num_labels(), d, c.initializer_range));
    } else if (task == "TOKEN_CLS") {
      layers_.dropout(c.classifier_dropout).linear(load.head("classifier", num_labels(), d, c.initializer_range));
    } else if (task == "fill-mask") {
      layers_ = masked_lm_head(load,
                               {.dense = "lm_head.dense",
                                .norm = "lm_head.layer_norm",
                                .bias = "lm_head.bias",
                                .d_in = d,
                                .eps = c.layer_norm_eps,
                                .tied = c.tie_word_embeddings},
                               encoder.words());
    }
    load.finish({"lm_head.", "pooler.", "embeddings.position_ids"});
  }
};

}  // namespace

const FamilySpec& family_roberta() {
  static const FamilySpec spec = encoder_family({
      .model_type = "roberta",
      .heads = encoder_heads("Roberta", "classifier.out_proj.weight", "lm_head.decoder"),
      .word_embeddings = "roberta.embeddings.word_embeddings",
      .adalora_target_modules = {"query", "key", "value", "dense"},
      .load = [](const FamilyInput& input) { return std::make_unique<Roberta>(input); },
  });
  return spec;
}

}  // namespace deltaw

// MPNet: Song et al. 2020, arXiv:2004.09297. Names and dropouts as transformers' modeling_mpnet.
#include <fmt/format.h>

#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

class MpNet final : public EncoderFamilyModel {
 public:
  explicit MpNet(const FamilyInput& input) {
    const ConfigValues values = config_of(input);
    auto c = EncoderConfig::from_json(values, 1);
    c.pad_token_id = c.padding_idx = 1;  // for transformers, whatever config.json says
    c.positions_after_padding = true;
    c.check_positions_after_padding(values);
    c.type_vocab_size = 0;
    c.relative_buckets = values.size_or("relative_attention_num_buckets", kDistanceBuckets);
    if (c.relative_buckets < kDistanceBuckets) {
      values.refuse("relative_attention_num_buckets", fmt::format("at least {}", kDistanceBuckets));
    }
    Loader load(*this, input, "mpnet");
    const Encoder& encoder = load_encoder(load, c,
                                          {.embeddings = "mpnet.embeddings",
                                           .layers = numbered("mpnet.encoder.layer.{}", c.num_hidden_layers),
                                           .query = "attention.attn.q",
                                           .key = "attention.attn.k",
                                           .value = "attention.attn.v",
                                           .attention_output = "attention.attn.o",
                                           .attention_norm = "attention.LayerNorm",
                                           .relative_bias = "mpnet.encoder.relative_attention_bias"});
    const int64_t d = c.hidden_size;
    const double p = c.hidden_dropout_prob;
    const std::string& task = load.head_spec().task_type;
    if (task != "SEQ_CLS") reads_ = Reads::every;
    if (task == "SEQ_CLS") {
      layers_.dropout(p).linear(load.head("classifier.dense", d, d, c.initializer_range)).tanh();
      layers_.dropout(p).linear(load.head("classifier.out_proj", num_labels(), d, c.initializer_range));
    } else if (task == "TOKEN_CLS") {
      layers_.dropout(p).linear(load.head("classifier", num_labels(), d, c.initializer_range));
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

const FamilySpec& family_mpnet() {
  static const FamilySpec spec = {
      .model_type = "mpnet",
      .heads = encoder_heads("MPNet", "classifier.out_proj.weight", "lm_head.decoder"),
      .word_embeddings = "mpnet.embeddings.word_embeddings",
      .lora_target_modules = {"attn.q", "attn.v"},
      .ia3_target_modules = {"attn.k", "attn.v", "output.dense"},
      .ia3_feedforward_modules = {"output.dense"},
      .sublayer_outputs = {"attn.o", "output.dense"},
      .feedforward_outputs = {"output.dense"},
      .load = [](const FamilyInput& input) { return std::make_unique<MpNet>(input); },
  };
  return spec;
}

}  // namespace deltaw

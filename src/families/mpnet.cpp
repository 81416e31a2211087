// MPNet: Song et al. 2020, arXiv:2004.09297. Names and dropouts as transformers' modeling_mpnet.
#include <fmt/format.h>

#include "models/encoder.h"
#include "models/family_input.h"

namespace deltaw {
namespace {

std::unique_ptr<Model> load(const FamilyInput& input) {
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
  const double p = c.hidden_dropout_prob;
  const EncoderNames names{.base = "mpnet",
                           .layers = numbered("mpnet.encoder.layer.{}", c.num_hidden_layers),
                           .query = "attention.attn.q",
                           .key = "attention.attn.k",
                           .value = "attention.attn.v",
                           .attention_output = "attention.attn.o",
                           .attention_norm = "attention.LayerNorm",
                           .relative_bias = "mpnet.encoder.relative_attention_bias"};
  const EncoderHeads heads{.rows = {.dense = "classifier.dense", .dense_dropout = p, .dropout = p},
                           .choices = RowHeadForm{.dense = "mpnet.pooler.dense", .dropout = p},
                           .masked = {.dense = "lm_head.dense", .norm = "lm_head.layer_norm", .bias = "lm_head.bias"},
                           .pooler = "mpnet.pooler.dense",
                           .token_dropout = p};
  return load_encoder(input, c, names, heads, {"lm_head.", "pooler.", "embeddings.position_ids"});
}

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
      .load = load,
  };
  return spec;
}

}  // namespace deltaw

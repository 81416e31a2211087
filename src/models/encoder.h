// The Transformer encoder that BERT and RoBERTa share (Devlin et al. 2018, arXiv:1810.04805): learned positions,
// attention, a feed-forward pair, LayerNorm after each residual sum.
#pragma once

#include <string>
#include <vector>

#include "deltaw/model.h"
#include "models/loader.h"
#include "models/padding.h"
#include "ops/activations.h"

namespace deltaw {

struct EncoderConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t intermediate_size = 0;
  int64_t max_position_embeddings = 0;
  int64_t type_vocab_size = 0;
  int64_t pad_token_id = 0;
  int64_t padding_idx = -1;  // the embeddings' row for padding, or -1
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  double classifier_dropout = 0.1;  // hidden_dropout_prob where config.json has null
  std::string hidden_act = "gelu";

  /// `pad_token_id` is the family's, where config.json is silent. Throws config.* naming the key for what is missing,
  /// of the wrong type or not implemented.
  static EncoderConfig from_json(const ConfigValues& values, int64_t pad_token_id);
};

class Encoder {
 public:
  Encoder(Loader& load, const EncoderConfig& config, const std::string& prefix);

  /// Token and type ids [batch, seq], mask [batch, seq] -> hidden states of each row's first token [batch, hidden],
  /// which is all that heads read: the last block computes no others. With embeddings of n virtual tokens, position ids
  /// are [batch, n + seq], those of the virtual tokens first.
  Tensor first_states(const ModelInput& input, const VirtualTokens& virtual_tokens, const Tensor& position_ids,
                      Call& call) const;
  /// For the model, which owns this.
  ModelShape shape() const;

 private:
  struct Block {
    const Linear *query, *key, *value, *attention_output;
    const Norm* attention_norm;
    const Linear *intermediate, *output;
    const Norm* output_norm;
  };
  Tensor embed(const ModelInput& input, const Tensor& prompt, const Tensor& position_ids, const Call& call) const;
  /// `input` [tokens, hidden] -> the same of all tokens or of the rows' first ones. `prefix` [n, 2, hidden]: keys and
  /// values before the layer's own; undefined for none.
  Tensor run_block(const Tensor& input, const Padding& padding, const Block& block, const Tensor& prefix,
                   const Tensor& mask, bool firsts_only, Call& call) const;
  Tensor attend(const Tensor& input, const Tensor& asking, const Padding& padding, const Block& block,
                const Tensor& prefix, const Tensor& mask, Call& call) const;

  EncoderConfig config_;
  const Embedding *word_, *position_, *type_;
  const Norm* embedding_norm_;
  std::vector<Block> blocks_;
  ops::Activation activation_;
};

/// The spec of a family of this encoder: what `own` leaves open are the names of the encoder's layers.
FamilySpec encoder_family(FamilySpec own);

/// What the adapter of the call puts before every row. Throws data.too-long when a row is longer with it than the
/// model's positions.
VirtualTokens virtual_tokens_of(const Call& call, const ModelInput& input, int64_t max_positions);

}  // namespace deltaw

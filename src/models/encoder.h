// The Transformer encoder that BERT and its relatives share (Devlin et al. 2018, arXiv:1810.04805): learned positions,
// attention, a feed-forward pair, LayerNorm after each residual sum. A family says in its own file where it differs.
#pragma once

#include <string>
#include <vector>

#include "deltaw/model.h"
#include "models/loader.h"
#include "models/text_encoder.h"

namespace deltaw {

struct EncoderConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t embedding_size = 0;  // hidden_size, unless the family says otherwise
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t intermediate_size = 0;
  int64_t max_position_embeddings = 0;
  int64_t type_vocab_size = 0;  // 0: no embeddings of types
  int64_t pad_token_id = 0;
  int64_t padding_idx = -1;  // the embeddings' row for padding, or -1
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  double classifier_dropout = 0.1;  // hidden_dropout_prob where config.json has null
  std::string hidden_act = "gelu";
  bool tie_word_embeddings = true;

  // What a family sets.
  bool positions_after_padding = false;  // positions count the tokens from pad_token_id + 1, as RoBERTa's
  bool attention_output_dropout = true, output_dropout = true;  // behind the sublayers
  int64_t relative_buckets = 0;  // rows of the bias by distance that all layers share; 0: there is none

  /// `pad_token_id` is the family's, where config.json is silent. Throws config.* naming the key for what is missing,
  /// of the wrong type or not implemented.
  static EncoderConfig from_json(const ConfigValues& values, int64_t pad_token_id);
  /// Refuses a pad_token_id that leaves no positions behind it. Throws config.unsupported.
  void check_positions_after_padding(const ConfigValues& values) const;
  int64_t max_positions() const {
    return positions_after_padding ? max_position_embeddings - pad_token_id - 1 : max_position_embeddings;
  }
  /// A block without layers: heads, dropouts, the activation.
  Block block() const;
};

/// Where the modules of an encoder stand: below the base, the layers and one layer. BERT's are the defaults.
struct EncoderNames {
  std::string base;                 // "bert": with "bert.embeddings"; a checkpoint of the base alone leaves it out
  std::string projection = {};      // from embedding_size to hidden_size, where the two differ or `projects`
  bool projects = false;            // there is one whatever the sizes
  std::vector<std::string> layers;  // of layer i; the layers of one name are one: "bert.encoder.layer.0"
  std::string query = "attention.self.query", key = "attention.self.key", value = "attention.self.value";
  std::string attention_output = "attention.output.dense", attention_norm = "attention.output.LayerNorm";
  std::string intermediate = "intermediate.dense", output = "output.dense", output_norm = "output.LayerNorm";
  std::string relative_bias = {};  // its embedding, where there are relative_buckets
};

constexpr int64_t kDistanceBuckets = 32;  // that a bias by distance tells apart

/// "bert.encoder.layer.0", ... of the pattern "bert.encoder.layer.{}".
std::vector<std::string> numbered(const std::string& pattern, int64_t count);

class Encoder final : public TextEncoder {
 public:
  Encoder(Loader& load, const EncoderConfig& config, const EncoderNames& names);

 private:
  Tensor embed(const ModelInput& input, const VirtualTokens& before, Pass& pass, Call& call) const override;
  Tensor run(const Tensor& x, BlockInput input, const Pass& pass, Call& call) const override;
  Tensor positions(const Tensor& ids, const VirtualTokens& before) const;
  Tensor relative_bias(int64_t length, int64_t prefix_length, const Call& call) const;

  EncoderConfig config_;
  const Embedding *positions_ = nullptr, *types_ = nullptr, *relative_ = nullptr;
  const Norm* embedding_norm_ = nullptr;
  const Linear* projection_ = nullptr;
};

/// Loads such an encoder with the head that is asked for. What `heads` leaves open follows from `config`; `others` are
/// as Loader::finish has them.
std::unique_ptr<Model> load_encoder(const FamilyInput& input, const EncoderConfig& config, const EncoderNames& names,
                                    EncoderHeads heads, const std::vector<std::string>& others);

/// The spec of a family of this encoder: what `own` leaves open are the names of BERT's layers.
FamilySpec encoder_family(FamilySpec own);

/// The heads that transformers gives most encoders. `name`: "Bert".
///
///   SEQ_CLS              `classifier`, whose last layer is `weight`
///   TOKEN_CLS            `classifier`
///   QUESTION_ANS         `answers`, with two outputs: start and end
///   multiple-choice      `classifier`, with one output
///   fill-mask            the decoder `masked`
///   FEATURE_EXTRACTION   none: the hidden states
std::vector<HeadSpec> encoder_heads(const std::string& name, const std::string& weight, const std::string& masked,
                                    const std::string& answers = "qa_outputs");

}  // namespace deltaw

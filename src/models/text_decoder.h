// What the heads of decoders stand on.
#pragma once

#include <optional>
#include <vector>

#include "deltaw/model.h"
#include "models/block.h"
#include "models/head_layers.h"
#include "models/loader.h"
#include "models/rotary.h"

namespace deltaw {

/// A decoder without a head. What its family does not have stays as it is here.
struct TextDecoder {
  const Embedding* words = nullptr;
  const Embedding* positions = nullptr;  // a table of them
  double embedding_scale = 1;
  double embedding_dropout = 0;
  std::optional<Rotary> rotary = {};
  int64_t window = 0;  // of the blocks that have one
  std::vector<Block> blocks = {};
  const Norm* norm = nullptr;  // behind the blocks

  /// Hidden states of each row's last token [batch, hidden], or of every token [batch, seq, hidden].
  Tensor states(const ModelInput& input, Reads reads, Call& call) const;
};

/// A decoder with one of its heads.
class DecoderModel : public Model {
 public:
  Tensor features(const ModelInput& input, Call& call) const override { return decoder_.states(input, reads_, call); }
  Tensor logits(const Tensor& features, Call& call) const override { return layers_(features, call); }
  /// Where attention's scores are capped (see ops/attention).
  bool keeps_scores() const override;

 protected:
  struct HeadForm {
    int64_t vocab_size = 0;
    bool tied = false;             // the vocabulary's weight is that of the word embeddings
    double softcap = 0;            // of the vocabulary's logits; 0: none
    double initializer_range = 0;  // of a classifier that is drawn
    double token_dropout = 0;      // before a classifier of tokens
    bool token_bias = true;        // that it has one
  };
  const Embedding* load_words(Loader& load, const HeadForm& form, int64_t width, int64_t padding_idx = -1);
  /// The head that the model is loaded with: the vocabulary, a classifier of each row's last token, or one of tokens.
  void load_head(Loader& load, const HeadForm& form);
  /// What a loaded decoder says of itself.
  void settle(int64_t max_positions);

  TextDecoder decoder_;
  HeadLayers layers_;
  Reads reads_ = Reads::every;
};

}  // namespace deltaw

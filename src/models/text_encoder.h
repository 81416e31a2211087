// What the heads of encoders stand on.
#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "deltaw/model.h"
#include "models/block.h"
#include "models/head_layers.h"

namespace deltaw {

/// An encoder without a head: embeddings, blocks, and in some a norm behind them.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// Hidden states of each row's first token or the mean of its tokens, virtual ones among them, [batch, hidden], or of
  /// every token [batch, seq, hidden], zero on padding. Where only the first tokens are read, the last block computes
  /// no others. Throws data.too-long when a row is longer, with virtual tokens, than the model's positions.
  Tensor states(const ModelInput& input, Reads reads, Call& call) const;

  const Embedding& words() const { return *words_; }
  const std::vector<Block>& blocks() const { return blocks_; }

 protected:
  /// What all blocks of a pass see.
  struct Pass {
    int64_t prompts = 0;  // virtual tokens that have embeddings
    Tensor mask;          // [batch, prompts + seq] int64: 0 for padding
    Padding padding;
    std::vector<Rotary::Turn> turns = {};  // as the family counts them
    std::vector<Tensor> shared = {};       // tensors for all blocks; what records a gradient must be among them
    std::shared_ptr<const ops::CausalKeys> causal = {};  // in place of the padding's mask
  };
  /// The states that enter the first block, [tokens, hidden]; `pass` gets turns and what is shared.
  virtual Tensor embed(const ModelInput& input, const VirtualTokens& before, Pass& pass, Call& call) const = 0;
  /// Block `input.layer`; `input` has no turn yet, and its mask is that of the padding.
  virtual Tensor run(const Tensor& x, BlockInput input, const Pass& pass, Call& call) const = 0;

  /// [batch, prompts + seq]: zeros for virtual tokens, for all where the table has one row or none.
  static Tensor types_of(const ModelInput& input, const Pass& pass, int64_t table_rows);

  const Embedding* words_ = nullptr;
  std::vector<Block> blocks_;
  const Norm* final_norm_ = nullptr;                             // behind the blocks
  int64_t max_positions_ = std::numeric_limits<int64_t>::max();  // that a row can have
};

/// Whether a head reads each row's first token, and not every one.
bool reads_first_tokens(const HeadSpec& head);

/// The heads of an encoder that are not alike in all families, by what transformers' class does.
struct EncoderHeads {
  RowHeadForm rows = {};                          // SEQ_CLS
  std::optional<RowHeadForm> choices = {};        // multiple-choice; none: the same
  MaskedLmForm masked = {};                       // fill-mask
  std::string pooler = {};                        // of a part: its dense layer, before tanh; empty: there is none
  double token_dropout = 0, answers_dropout = 0;  // before the one layer of TOKEN_CLS and QUESTION_ANS
};

/// An encoder with one of its heads.
class EncoderModel : public Model {
 public:
  Tensor features(const ModelInput& input, Call& call) const override { return encoder_->states(input, reads_, call); }
  Tensor logits(const Tensor& features, Call& call) const override { return layers_(features, call); }

 protected:
  struct Facts {
    int64_t max_positions = 0, type_vocab_size = 0;
    bool position_table = false;
    bool takes_prefix = true;  // keys and values can stand before those of its attention
  };
  /// Takes the encoder and settles what the model says of itself.
  void take(std::unique_ptr<TextEncoder> encoder, const Facts& facts);
  /// The head that the model is loaded with; a new one is drawn with the deviation `std`.
  void load_head(Loader& load, const EncoderHeads& form, double std);
  void load_pooler(Loader& load, const std::string& pooler, double std);

  std::unique_ptr<TextEncoder> encoder_;
  HeadLayers layers_;
  Reads reads_ = Reads::first;
};

}  // namespace deltaw

// The parts of a layer of a transformer (Vaswani et al. 2017, arXiv:1706.03762). A family loads them under its own
// names; what it does not have stays as it is here.
#pragma once

#include <vector>

#include "deltaw/model.h"
#include "models/padding.h"
#include "models/rotary.h"
#include "ops/activations.h"
#include "ops/attention/attention.h"

namespace deltaw {

/// What one block of a pass reads beside the states x: [batch, seq, hidden], or [tokens, hidden] where `padding` was
/// taken out.
struct BlockInput {
  int64_t layer = 0;         // by which a cache knows it
  Padding padding = {};      // none is taken out
  bool firsts_only = false;  // only the rows' first tokens are computed, [batch, hidden]; all are seen
  ops::AttentionMask mask = {};
  Rotary::Turn turn = {};  // of every position; undefined where nothing turns
  Tensor prefix = {};      // [n, 2, width]: keys and values before the layer's own; undefined for none
};

/// The last layer of a sublayer, and what becomes of its output before the residual sum.
struct SublayerOutput {
  const Linear* layer = nullptr;
  const Norm* norm = nullptr;
  double dropout = 0;
  const Parameter* scale = nullptr;  // [hidden], multiplies the output (LayerScale)
  double drop_path = 0;              // the share of rows that go without the sublayer in training (stochastic depth)

  /// `y` of the layer -> what is added.
  Tensor added(Tensor y, Call& call) const;
};

struct Attention {
  std::vector<const Linear*> qkv;                         // queries, keys and values, or one layer for all three
  int64_t heads = 0, key_heads = 0, width = 0;            // of a head; each key head serves heads / key_heads others
  const Norm *query_norm = nullptr, *key_norm = nullptr;  // of every head
  ops::AttentionForm form = {};
  int64_t window = 0;  // tokens that are seen: behind the query, in an encoder on either side; 0: all
  SublayerOutput output = {};

  struct Heads {
    Tensor queries, keys, values;  // [batch, heads or key_heads, seq, width]
  };
  /// `asking` are the tokens that have queries: x itself, or the rows' first ones [batch, hidden].
  Heads project(const Tensor& x, const Tensor& asking, const Padding& padding, Call& call) const;
  /// [batch, heads, queries, width] -> what is added to the residual sum.
  Tensor added(const Tensor& mixed, const BlockInput& input, Call& call) const;
  Tensor operator()(const Tensor& x, const Tensor& asking, const BlockInput& input, Call& call) const;
};

struct FeedForward {
  std::vector<const Linear*> inner;  // one; gate and up, or one layer for both where it is gated
  bool gated = false;
  ops::Activation activation = ops::Activation("gelu");
  double dropout = 0;  // before the output
  SublayerOutput output = {};

  Tensor operator()(const Tensor& x, Call& call) const;
};

struct Block {
  Attention attention;
  FeedForward feed_forward;
  /// The norms are before the sublayers, and there may be none before attention; else behind the residual sums.
  bool norms_first = false;
  const Norm *attention_norm = nullptr, *feed_forward_norm = nullptr;

  Tensor operator()(const Tensor& x, const BlockInput& input, Call& call) const;
  /// What follows attention. `residual` are the states of the tokens that asked.
  Tensor behind_attention(const Tensor& attended, const Tensor& residual, Call& call) const;
};

}  // namespace deltaw

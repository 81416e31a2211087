// What the passes of all causal models share: where tokens stand, what they see, what was read before.
#pragma once

#include "deltaw/model.h"
#include "models/config_values.h"
#include "models/padding.h"
#include "ops/attention/attention.h"

namespace deltaw {

/// Made once a pass, read by every layer. Virtual tokens stand before a row's own and belong to all its documents.
struct CausalPass {
  Tensor prompt;                      // embeddings [n, hidden] to put before the row's own; undefined for none
  Tensor prefix;                      // [n, layers, 2, width] to put before every layer's keys; undefined for none
  Tensor positions;                   // [batch or 1, queries] int64: tokens of the same document before each
  int64_t end = 0;                    // one more than the last of them
  ops::AttentionMask full, windowed;  // of layers that see all, and of those that see `window` tokens
  Padding padding;                    // to take out of the states; none with a cache, which has places for it
};

/// `window`: tokens that a layer with a window sees, itself among them; 0 where no layer has one. Throws shape.mismatch
/// for a mask that does not fit the ids and the cache. What stands in the places of padding is finite and means
/// nothing.
CausalPass causal_pass(const ModelInput& input, int64_t window, const Call& call);

/// Of states [batch, seq, hidden] those of each row's last token that is no padding: [batch, hidden].
Tensor last_tokens(const Tensor& states, const ModelInput& input);

/// The dropout before a causal model's classifier of tokens.
double token_dropout(const ConfigValues& config);

}  // namespace deltaw

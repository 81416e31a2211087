// What an adapter puts before the tokens of every row, as models read it.
#pragma once

#include "deltaw/active_updates.h"

namespace deltaw {

/// Those of the call's adapter; none without one.
inline VirtualTokens virtual_tokens_of(const Call& call) {
  return call.adapter ? call.adapter->virtual_tokens() : VirtualTokens{};
}

/// Embeddings [rows, seq, width] behind those of a prompt [n, width]; as they are where it is undefined.
inline Tensor behind_prompt(const Tensor& prompt, const Tensor& words) {
  if (!prompt.defined()) return words;
  return at::cat({prompt.to(words.scalar_type()).expand({words.size(0), -1, -1}), words}, 1);
}

/// One layer's part [n, 2, width] of a prefix [n, layers, 2, width]; undefined for none.
inline Tensor prefix_of(const Tensor& prefix, int64_t layer) {
  return prefix.defined() ? prefix.select(1, layer) : Tensor();
}

}  // namespace deltaw

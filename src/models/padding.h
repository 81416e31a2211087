// Layers that treat each token alone need not see the padding.
#pragma once

#include <ATen/ATen.h>

#include "ops/host_read.h"

namespace deltaw {

/// Takes the padding out of a batch and puts it in again. The first token of a row always stays: heads read it.
class Padding {
 public:
  /// None is taken out: states stay [rows, length, width].
  Padding() = default;
  /// attention_mask [rows, length], int64, on the host: 0 for padding. `device`: of the tokens.
  Padding(const at::Tensor& attention_mask, at::Device device)
      : rows_(attention_mask.size(0)), length_(attention_mask.size(1)) {
    at::Tensor kept = attention_mask.ne(0);
    if (ops::known_flag(kept.all())) return;
    kept.select(1, 0).fill_(true);
    tokens_ = ops::known_places(kept).to(device);
    firsts_ = (kept.flatten().cumsum(0).view_as(kept).select(1, 0) - 1).to(device);
  }

  /// [rows, length, width] -> [tokens, width].
  at::Tensor remove(const at::Tensor& padded) const {
    if (rows_ < 0) return padded;
    const at::Tensor flat = padded.flatten(0, 1);
    return tokens_.defined() ? flat.index_select(0, tokens_) : flat;
  }

  /// [tokens, width] -> [rows, width]: of each row's first token.
  at::Tensor firsts(const at::Tensor& tokens) const {
    if (rows_ < 0) return tokens.select(1, 0);
    if (firsts_.defined()) return tokens.index_select(0, firsts_);
    return tokens.view({rows_, length_, tokens.size(1)}).select(1, 0);
  }

  /// [tokens, width] -> [rows, length, width], zero where there is padding.
  at::Tensor add(const at::Tensor& tokens) const {
    if (rows_ < 0) return tokens;
    const int64_t width = tokens.size(1);
    if (!tokens_.defined()) return tokens.view({rows_, length_, width});
    return at::zeros({rows_ * length_, width}, tokens.options())
        .index_copy(0, tokens_, tokens)
        .view({rows_, length_, width});
  }

 private:
  int64_t rows_ = -1, length_ = 0;
  at::Tensor tokens_;  // positions among rows x length; undefined where nothing is padded
  at::Tensor firsts_;  // positions among the tokens; undefined likewise
};

}  // namespace deltaw

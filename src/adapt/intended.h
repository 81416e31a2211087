// What an update should make of a layer's weights: the contract's formula in float64, column by column, and none of the
// code that merges. What was written is held against it.
#pragma once

#include <functional>

#include "deltaw/adapter.h"

namespace deltaw {

/// Columns of W, [d_out, n] in float64. Computed from the same tensors in another order and in `float32`, an element
/// may come out as far from that as `slack` says; in float64 nearer.
struct Columns {
  Tensor weight, slack;
};

/// n columns from `begin`. W0 [d_out, d_in] in the type that the computing was done in, or wider.
Columns columns_of(const Update& update, const Tensor& W0, int64_t begin, int64_t n);

/// All of them, in blocks of some megabytes: calls `see` with the first column of each.
void each_block(const Update& update, const Tensor& W0,
                const std::function<void(int64_t begin, const Columns& block)>& see);

/// The bias [d_out], as one column; undefined where the layer has none. `bias`: the layer's own.
Columns bias_of(const Update& update, const Tensor& bias);

/// Whether `actual` is `expected` rounded once to `type`, element by element: bool tensor.
Tensor is_rounded(const Tensor& actual, const Columns& expected, at::ScalarType type);

}  // namespace deltaw

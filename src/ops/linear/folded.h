// The gradients of a folded layer, taken out of W's own. With P and its gains as in ops/linear/weight.h:
//
//     dW      = dy^T x                                        dP from dW: ops/linear/gains.h
//     dleft   = scale dP right^T diag(middle)                 ddense = scale dP
//     dmiddle = sum over rows of (scale dP right^T) * left    dright = scale (left diag(middle))^T dP
//
// dW is a sum over rows of x and dy, of one pass or of several.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/method.h"
#include "ops/linear/bias.h"
#include "ops/linear/input.h"
#include "ops/linear/layer_call.h"
#include "ops/linear/weight.h"

namespace deltaw::ops {

class FoldedSums {
 public:
  FoldedSums(const LayerCall& layer, const Update& update) : rows_(layer, update) {}
  /// Has several passes add up in the type of the factors. `weight` is W.
  void begin(const Tensor& weight, const Update& update);

  void add(const Tensor& dy, SharedInput& input);

  /// Gradients of the map's outputs, where they train. `type` is W's.
  Update gradients(const LayerCall& layer, const Update& update, const SparseFactors& sparse,
                   at::ScalarType type) const;

 private:
  Tensor dweight_;  // [d_out, d_in]
  RowSum rows_;
};

}  // namespace deltaw::ops

// The gradients of a layer whose W is formed, but without W's own: through the narrow products of the sequence, which
// takes fewer multiplications where one factor is frozen and not as wide as W. There are no gains, and no dense.
//
//     dleft   = scale dy^T (x right^T) diag(middle)
//     dmiddle = sum over rows of (scale dy^T (x right^T)) * left
//     dright  = scale (dy left diag(middle))^T x
//
// Each product is a sum over rows of x and dy, of one pass or of several, and taken only where its factor trains.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/method.h"
#include "ops/linear/bias.h"
#include "ops/linear/input.h"
#include "ops/linear/layer_call.h"
#include "ops/linear/weight.h"

namespace deltaw::ops {

class MixedSums {
 public:
  MixedSums(const LayerCall& layer, const Update& update, const TrainedFactors& trained);
  /// Has several passes add up in the type of the factors. `weight` is W.
  void begin(const Tensor& weight, const Update& update);

  void add(const Tensor& dy, SharedInput& input);

  /// Gradients of the map's outputs, where they train.
  Update gradients(const Update& update) const;

 private:
  Tensor right_, left_;    // what is multiplied by, left with the middle in it; undefined where nothing is
  Tensor dleft_, dright_;  // [d_out, k] and [k, d_in], without scale, dleft without middle
  RowSum rows_;
};

}  // namespace deltaw::ops

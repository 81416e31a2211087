// What is added to a layer's product. With b the base's bias and c the update's:
//
//     b' = b + scale c          db = sum dy
//     b' = g b + scale c        db = g sum dy       dg = b sum dy + ...     where the gain g on outputs acts on b too
//                               dc = scale sum dy
//
// All sums run over the rows of dy.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/method.h"
#include "ops/linear/layer_call.h"

namespace deltaw::ops {

/// b', in b's type or that of `like`; undefined where there is none.
Tensor updated_bias(const LayerCall& layer, const Update& update, const Tensor& like);

/// b where out_gain multiplies it, else undefined; and b' less that.
Tensor bias_before_gain(const LayerCall& layer, const Update& update);
Tensor bias_after_gain(const LayerCall& layer, const Update& update, const Tensor& like);

/// db.
Tensor bias_gradient(const Tensor& dy, const Update& update);

/// The sum of dy over rows, of one pass or of several, where a gradient asks for it.
class RowSum {
 public:
  RowSum(const LayerCall& layer, const Update& update);
  void add(const Tensor& dy);

  /// dc.
  Tensor bias_gradient(const Update& update) const;
  /// b sum dy, the bias's share of dg; undefined where the gain does not act on it.
  Tensor gain_gradient(const LayerCall& layer, const Update& update) const;

 private:
  bool asked_;
  Tensor sum_;
};

}  // namespace deltaw::ops

#include "ops/linear/mixed.h"

namespace deltaw::ops {

MixedSums::MixedSums(const LayerCall& layer, const Update& update, const TrainedFactors& trained)
    : rows_(layer, update) {
  if (trained.left) right_ = update.right;
  if (trained.right) left_ = scaled_columns(update.left, update.middle);
}

void MixedSums::begin(const Tensor& weight, const Update& update) {
  const at::TensorOptions options = weight.options().dtype(type_of_factors(update));
  if (right_.defined()) dleft_ = at::zeros(update.left.sizes(), options);
  if (left_.defined()) dright_ = at::zeros(update.right.sizes(), options);
}

void MixedSums::add(const Tensor& dy, SharedInput& input) {
  rows_.add(dy);
  if (right_.defined()) add_product_to(dleft_, dy.t(), input.times_right(right_));
  if (left_.defined()) add_product_to(dright_, at::mm(dy, as(left_, dy)).t(), input.x);
}

Update MixedSums::gradients(const Update& update) const {
  const at::ScalarType own = type_of_factors(update);
  Update result;
  if (dleft_.defined()) split_left(dleft_.to(own) * update.scale, update, result);
  if (dright_.defined()) result.right = dright_.to(own) * update.scale;
  result.bias = rows_.bias_gradient(update);
  return result;
}

}  // namespace deltaw::ops

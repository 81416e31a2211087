#include "ops/linear/bias.h"

#include "ops/row_sums.h"
#include "ops/sum.h"

namespace deltaw::ops {
namespace {

Tensor own_bias(const Update& update, const Tensor& like) {
  return update.bias.defined() ? as(update.bias * update.scale, like) : update.bias;
}

bool gain_on_bias(const Update& update) {
  return update.gain_on_bias && update.out_gain.defined();
}

}  // namespace

Tensor updated_bias(const LayerCall& layer, const Update& update, const Tensor& like) {
  Tensor bias = layer.bias;
  if (bias.defined() && gain_on_bias(update)) bias = scaled_columns(bias, update.out_gain);
  return plus(bias, own_bias(update, like));
}

Tensor bias_before_gain(const LayerCall& layer, const Update& update) {
  return gain_on_bias(update) ? layer.bias : Tensor();
}

Tensor bias_after_gain(const LayerCall& layer, const Update& update, const Tensor& like) {
  const Tensor own = own_bias(update, like);
  return gain_on_bias(update) ? own : plus(layer.bias, own);
}

Tensor bias_gradient(const Tensor& dy, const Update& update) {
  const Tensor sum = sum_of_rows(dy);
  return gain_on_bias(update) ? scaled_columns(sum, update.out_gain) : sum;
}

RowSum::RowSum(const LayerCall& layer, const Update& update)
    : asked_(update.bias.defined() || bias_before_gain(layer, update).defined()) {}

void RowSum::add(const Tensor& dy) {
  if (asked_) sum_ = plus(sum_, sum_of_rows(dy));
}

Tensor RowSum::bias_gradient(const Update& update) const {
  return update.bias.defined() ? sum_ * update.scale : Tensor();
}

Tensor RowSum::gain_gradient(const LayerCall& layer, const Update& update) const {
  const Tensor bias = bias_before_gain(layer, update);
  return bias.defined() ? sum_ * as(bias, sum_) : Tensor();
}

}  // namespace deltaw::ops

#include "ops/linear/gains.h"

#include <algorithm>
#include <cmath>

#include "ops/linear/bias.h"
#include "ops/linear/weight.h"
#include "ops/row_sums.h"
#include "ops/sum.h"

namespace deltaw::ops {
namespace {

// Whether dividing by the gain gives back what it multiplied. Only where its numbers are at hand: elsewhere asking
// costs more than multiplying the output does.
bool can_divide_by(const Tensor& gain, const Tensor& x) {
  if (!gain.is_cpu() || gain.numel() == 0) return false;
  const double least = x.scalar_type() == at::kBFloat16 ? 0.5 : 1.0 / 64;
  const Tensor numbers = gain.to(at::kDouble).contiguous();
  const double* data = numbers.const_data_ptr<double>();
  return std::all_of(data, data + numbers.numel(), [least](double number) { return std::abs(number) >= least; });
}

void scale_rows(Tensor& matrix, const Tensor& gain) {
  if (matrix.defined()) matrix = scaled_rows(matrix, gain);
}

// The update that P' has. It trains where the update does.
Update scaled_update(Update update) {
  for (Tensor* matrix : {&update.left, &update.dense}) {
    const bool trains = matrix->defined() && matrix->requires_grad();
    scale_rows(*matrix, update.out_gain);
    if (trains) matrix->requires_grad_();
  }
  return update;
}

}  // namespace

Tensor GainedSequence::forward(const LayerCall& layer, const Update& update, const ProductInput& input,
                               const StackColumns& stacked) {
  const Tensor& x = input.value();
  const Tensor bias = updated_bias(layer, update, x);
  const bool gained = update.in_gain.defined();
  const ProductInput own(gained ? scaled_columns(x, update.in_gain) : Tensor());
  const ProductInput& u = gained ? own : input;
  if (!update.out_gain.defined()) return product.forward(layer, {FrozenMatrix(layer), update, bias}, u, stacked);
  in_rows = can_divide_by(update.out_gain, x);
  if (in_rows) {
    const FrozenMatrix weight(layer, update.out_gain);
    output = product.forward(layer, {weight, scaled_update(update), bias}, u, stacked);
    return output;
  }
  output = product.forward(layer, {FrozenMatrix(layer), update, Tensor()}, u, stacked);
  return plus(output * as(update.out_gain, x), bias);
}

Update GainedSequence::backward(const Tensor& dy, const LayerCall& layer, const Update& update, SharedInput& input,
                                const StackColumns& stacked) const {
  const Tensor &x = input.x, &out = update.out_gain, &in = update.in_gain;
  const Tensor dout = out.defined() ? gain_gradient(dy, layer, update) : Tensor();
  const Tensor dz = out.defined() && !in_rows ? dy * as(out, dy) : dy;
  const Tensor u = in.defined() && has_delta(update) ? x * as(in, x) : x;  // which the update alone reads
  Tensor own_du;
  Tensor* du = in.defined() ? &own_du : input.needs_dx ? &input.dx : nullptr;
  Product own{.weight = {}, .update = in_rows ? scaled_update(update) : update, .bias = Tensor()};
  if (du) own.weight = FrozenMatrix(layer, in_rows ? out : Tensor());
  Update gradients = product.backward(dz, layer, own, u, du, stacked);
  gradients.out_gain = dout;
  if (in.defined()) {
    gradients.in_gain = sum_of_products(own_du, x);
    if (input.needs_dx) input.dx = plus(input.dx, own_du * as(in, x));
  }
  if (in_rows) {
    scale_rows(gradients.left, out);
    scale_rows(gradients.dense, out);
  }
  if (update.bias.defined()) gradients.bias = sum_of_rows(dy).mul_(update.scale);
  return gradients;
}

Tensor GainedSequence::gain_gradient(const Tensor& dy, const LayerCall& layer, const Update& update) const {
  if (!in_rows) {
    const Tensor bias = bias_before_gain(layer, update);
    return sum_of_products(dy, bias.defined() ? output + as(bias, output) : output);
  }
  Tensor sum = sum_of_products(dy, output);
  const Tensor bias = bias_after_gain(layer, update, dy);
  if (bias.defined()) sum.sub_(sum_of_rows(dy).mul_(bias));
  return sum.div_(update.out_gain);
}

Tensor through_gains(const Tensor& dweight, const Tensor& P, const Update& update, Update& gradients) {
  Tensor dP = dweight;
  if (update.out_gain.defined()) {
    gradients.out_gain = (dP * scaled_columns(P, update.in_gain)).sum(1);
    dP = scaled_rows(dP, update.out_gain);
  }
  if (update.in_gain.defined()) {
    gradients.in_gain = (dP * P).sum(0);
    dP = scaled_columns(dP, update.in_gain);
  }
  return dP;
}

}  // namespace deltaw::ops

#include "ops/linear/sequence.h"

#include "ops/linear/weight.h"
#include "ops/row_sums.h"
#include "ops/sum.h"
#include "ops/thin.h"

namespace deltaw::ops {
namespace {

// scale left^T, [k, d_out].
Tensor turned_left(const Update& update, const Tensor& like) {
  return as((update.left.detach() * update.scale).t(), like).contiguous();
}

Tensor masked(const Tensor& u, const Tensor& mask) {
  return mask.defined() ? u * mask : u;
}

// dh, and the gradients of left and middle. dz is read once for dh and dleft.
Tensor through_left(const Tensor& dz, const Tensor& h, const Update& update, Update& gradients) {
  const Tensor turned = turned_left(update, dz);
  Tensor dh;
  if (update.left.requires_grad()) {
    const ThinAndFactor both = thin_and_factor_of(dz, turned, h);
    dh = both.thin;
    gradients.left = scaled_columns(both.factor.t(), update.middle) * update.scale;
  } else {
    dh = thin_of(dz, turned);
  }
  if (!update.middle.defined()) return dh;
  if (update.middle.requires_grad()) gradients.middle = sum_of_products(dh, h);
  return scaled_columns(dh, update.middle);
}

}  // namespace

Tensor Sequence::forward(const LayerCall& layer, const Product& product, const ProductInput& input,
                         const StackColumns& stacked) {
  const Update& update = product.update;
  const Tensor& u = input.value();
  const auto dropped = [&] { return masked(u, layer.mask(u)); };
  Tensor z;
  if (update.left.defined()) {
    if (!stacked.h.defined()) h = thin_of(dropped(), as(update.right, u));
    const Tensor turned = turned_left(update, u);
    z = wide_of(stacked.h.defined() ? stacked.h : h,
                update.middle.defined() ? scaled_rows(turned, update.middle) : turned, product.bias);
    product.weight.add_times(z, input);
  } else {
    z = product.weight.times(input, product.bias);
  }
  if (update.dense.defined()) z.addmm_(dropped(), as(update.dense, u).t(), 1, update.scale);
  return z;
}

Update Sequence::backward(const Tensor& dz, const LayerCall& layer, const Product& product, const Tensor& u, Tensor* du,
                          const StackColumns& stacked) const {
  const Update& update = product.update;
  const Tensor mask = has_delta(update) ? layer.mask(u) : Tensor();
  Update gradients;
  if (update.left.defined()) {
    const Tensor dh = through_left(dz, stacked.h.defined() ? stacked.h : h, update, gradients);
    if (stacked.h.defined()) {
      stacked.dh.add_(dh);
    } else {
      const Tensor right = as(update.right, u);
      if (update.right.requires_grad()) gradients.right = factor_of(dh, masked(u, mask));
      if (du && mask.defined()) {
        *du = plus(*du, wide_of(dh, right).mul_(mask));
      } else if (du && du->defined()) {
        add_wide(*du, dh, right);
      } else if (du) {
        *du = wide_of(dh, right);
      }
    }
  }
  if (du) product.weight.add_gradient(*du, dz);
  if (update.dense.defined()) {
    if (update.dense.requires_grad()) gradients.dense = at::mm(dz.t(), masked(u, mask)).mul_(update.scale);
    if (du && mask.defined()) {
      du->add_(at::mm(dz * update.scale, as(update.dense, u)).mul_(mask));
    } else if (du) {
      du->addmm_(dz, as(update.dense, u), 1, update.scale);
    }
  }
  return gradients;
}

}  // namespace deltaw::ops

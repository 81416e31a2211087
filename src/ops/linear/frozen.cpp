#include "ops/linear/frozen.h"

#include "ops/quantised.h"

namespace deltaw::ops {

FrozenMatrix::FrozenMatrix(const LayerCall& layer, const Tensor& gain) {
  const Quantised* weight = layer.base->weight.quantised.get();
  if (const Int8Weight* codes = weight ? weight->in_int8() : nullptr) {
    in_int8_ = gain.defined() ? codes->scaled(gain) : *codes;
  } else {
    numbers_ = gain.defined() ? scaled_rows(layer.weight(), gain) : layer.weight();
  }
}

Tensor FrozenMatrix::times(const ProductInput& u, const Tensor& bias) const {
  if (in_int8_) return int8_product(u.in_int8(), *in_int8_, bias, u.value().scalar_type());
  return at::linear(u.value(), numbers_, bias);
}

void FrozenMatrix::add_times(Tensor& z, const ProductInput& u) const {
  if (in_int8_) {
    add_int8_product(z, u.in_int8(), *in_int8_);
  } else {
    z.addmm_(u.value(), numbers_.t());
  }
}

void FrozenMatrix::add_gradient(Tensor& du, const Tensor& dz) const {
  if (in_int8_) {
    add_int8_gradient(du, dz, *in_int8_);
  } else {
    add_product_to(du, dz, numbers_);
  }
}

}  // namespace deltaw::ops

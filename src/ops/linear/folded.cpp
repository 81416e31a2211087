#include "ops/linear/folded.h"

#include "ops/linear/gains.h"
#include "ops/sum.h"

namespace deltaw::ops {

void FoldedSums::begin(const Tensor& weight, const Update& update) {
  dweight_ = at::zeros(weight.sizes(), weight.options().dtype(type_of_factors(update)));
}

void FoldedSums::add(const Tensor& dy, SharedInput& input) {
  rows_.add(dy);
  add_product_to(dweight_, dy.t(), input.x);
}

Update FoldedSums::gradients(const LayerCall& layer, const Update& update, const SparseFactors& sparse,
                             at::ScalarType type) const {
  const at::ScalarType own = type_of_factors(update);
  const TrainedFactors trained = trained_factors(update);
  Update result;
  Tensor dP = dweight_;
  if (has_gains(update)) {
    const Tensor P = weight_without_gains(layer.weight(), update, sparse).to(own);
    dP = through_gains(dweight_.to(own), P, update, result);
    result.out_gain = plus(result.out_gain, rows_.gain_gradient(layer, update));
  }
  if (trained.left) {
    const Tensor dleft = sparse.turned_right ? sparse.turned_right->transpose_times(dP.to(own).t()).t()
                                             : product_in(type, dP, update.right.t());
    split_left(dleft.to(own) * update.scale, update, result);
  }
  if (trained.right) {
    const Tensor dright = sparse.left ? sparse.left->transpose_times(dP.to(own))
                                      : product_in(type, scaled_columns(update.left, update.middle).t(), dP);
    result.right = dright.to(own) * update.scale;
  }
  if (update.dense.defined() && update.dense.requires_grad()) result.dense = dP.to(own) * update.scale;
  result.bias = rows_.bias_gradient(update);
  return result;
}

}  // namespace deltaw::ops

#include "ops/linear/weight.h"

namespace deltaw::ops {
namespace {

// left diag(middle) right.
Tensor product(const Update& update, const SparseFactors& sparse, at::ScalarType type) {
  if (sparse.left) return sparse.left->times(update.right);
  if (sparse.turned_right) return sparse.turned_right->times(update.left.t()).t();
  return product_in(type, scaled_columns(update.left, update.middle), update.right).to(update.left.scalar_type());
}

// P - W0 in the type the factors have; `type` is W's.
Tensor delta(const Update& update, const SparseFactors& sparse, at::ScalarType type) {
  if (!update.left.defined()) return update.dense * update.scale;
  Tensor sum = product(update, sparse, type);
  if (update.dense.defined()) sum.add_(update.dense);
  return sum.mul_(update.scale);
}

Tensor with_gains(const Tensor& weight, const Update& update) {
  return scaled_columns(update.out_gain.defined() ? scaled_rows(weight, update.out_gain) : weight, update.in_gain);
}

}  // namespace

Tensor updated_weight(const Update& update, const Tensor& weight) {
  Tensor result = formed_weight(weight, update);
  const auto identity = [&] { return at::eye(weight.size(1), weight.options()); };
  if (update.before) result = at::mm(result, update.before(identity()).t());
  if (update.beside) result = result + update.beside(identity()).t() * update.scale;
  return result;
}

SparseFactors sparse_factors(const Update& update) {
  SparseFactors found;
  if (!update.left.defined() || update.middle.defined()) return found;
  if (!update.left.requires_grad()) found.left = SignMatrix::find(update.left);
  if (!update.right.requires_grad()) found.turned_right = SignMatrix::find(update.right.t());
  return found;
}

Tensor weight_without_gains(const Tensor& weight, const Update& update, const SparseFactors& sparse) {
  if (!has_delta(update)) return weight;
  if (update.left.defined() && !update.dense.defined() && !sparse) {
    const Tensor left = scaled_columns(update.left, update.middle);
    return at::addmm(weight, as(left, weight), as(update.right, weight), 1, update.scale);
  }
  Tensor change = delta(update, sparse, weight.scalar_type());
  return as(change.add_(as(weight, change)), weight);
}

Tensor formed_weight(const Tensor& weight, const Update& update, const SparseFactors& sparse) {
  return with_gains(weight_without_gains(weight, update, sparse), update);
}

Tensor product_in(at::ScalarType type, const Tensor& left, const Tensor& right) {
  return at::mm(left.to(type), right.to(type));
}

bool has_delta(const Update& update) {
  return update.left.defined() || update.dense.defined();
}

bool has_gains(const Update& update) {
  return update.out_gain.defined() || update.in_gain.defined();
}

at::ScalarType type_of_factors(const Update& update) {
  return update.left.defined() ? update.left.scalar_type() : update.dense.scalar_type();
}

TrainedFactors trained_factors(const Update& update) {
  if (!update.left.defined()) return {};
  const bool trains_middle = update.middle.defined() && update.middle.requires_grad();
  return {.left = update.left.requires_grad() || trains_middle, .right = update.right.requires_grad()};
}

void split_left(const Tensor& dproduct, const Update& update, Update& gradients) {
  if (update.middle.defined()) gradients.middle = (dproduct * update.left).sum(0);
  gradients.left = scaled_columns(dproduct, update.middle);
}

}  // namespace deltaw::ops

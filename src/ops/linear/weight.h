// W of a layer, formed:
//
//     W = diag(out_gain) P diag(in_gain)      P = W0 + scale (left diag(middle) right + dense)
#pragma once

#include <ATen/ATen.h>

#include <memory>

#include "deltaw/method.h"
#include "ops/linear/matrices.h"
#include "ops/sign_matrix.h"

namespace deltaw::ops {

/// W [d_out, d_in] in the type of `weight`, which is W0; after the maps on activations too, where there are any.
Tensor updated_weight(const Update& update, const Tensor& weight);

/// The factors that no trained tensor enters, where products with them skip zeros. The transpose of the right one.
struct SparseFactors {
  std::shared_ptr<const SignMatrix> left, turned_right;
  explicit operator bool() const { return left || turned_right; }
};
SparseFactors sparse_factors(const Update& update);

/// P, summed in the wider type and rounded once to W0's, as the factors are before.
Tensor weight_without_gains(const Tensor& weight, const Update& update, const SparseFactors& sparse = {});
/// W. Both for updates without maps on activations.
Tensor formed_weight(const Tensor& weight, const Update& update, const SparseFactors& sparse = {});

/// left right in the type that W has, whose rounding loses more than that of the factors.
Tensor product_in(at::ScalarType type, const Tensor& left, const Tensor& right);

bool has_delta(const Update& update);
bool has_gains(const Update& update);
/// Of what is added to W0.
at::ScalarType type_of_factors(const Update& update);

/// Which factors train: `left` says so of the gain behind it too, since the gradients of both are one product.
struct TrainedFactors {
  bool left = false, right = false;
};
/// Of an update with its graph.
TrainedFactors trained_factors(const Update& update);

/// Gradients of left and middle from that of left diag(middle).
void split_left(const Tensor& dproduct, const Update& update, Update& gradients);

}  // namespace deltaw::ops

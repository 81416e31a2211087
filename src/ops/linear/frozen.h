// The frozen side of a layer in sequence, and its products: P0 = W0, or diag(gain) W0.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "ops/int8/product.h"
#include "ops/linear/layer_call.h"

namespace deltaw::ops {

/// What enters a layer: [tokens, d_in], quantised once for all layers that multiply it in eight bits.
class ProductInput {
 public:
  explicit ProductInput(Tensor value) : value_(std::move(value)) {}

  const Tensor& value() const { return value_; }
  const Int8Rows& in_int8() const {
    if (!in_int8_) in_int8_.emplace(value_);
    return *in_int8_;
  }

 private:
  Tensor value_;
  mutable std::optional<Int8Rows> in_int8_;
};

/// P0 [d_out, d_in], for one use.
class FrozenMatrix {
 public:
  /// For passes in which it is not read.
  FrozenMatrix() = default;
  /// Of a layer; `gain` [d_out] may be undefined.
  explicit FrozenMatrix(const LayerCall& layer, const Tensor& gain = {});

  /// u P0^T + bias; the bias [d_out] may be undefined.
  Tensor times(const ProductInput& u, const Tensor& bias) const;
  /// z += u P0^T.
  void add_times(Tensor& z, const ProductInput& u) const;
  /// du += dz P0; a du that is undefined begins here.
  void add_gradient(Tensor& du, const Tensor& dz) const;

 private:
  Tensor numbers_;  // or
  std::optional<Int8Weight> in_int8_;
};

}  // namespace deltaw::ops

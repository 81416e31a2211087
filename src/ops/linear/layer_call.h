// An adapted layer in one call.
#pragma once

#include <cstdint>

#include "deltaw/active_updates.h"
#include "deltaw/model.h"
#include "ops/dropout_mask.h"
#include "ops/linear/matrices.h"

namespace deltaw::ops {

/// What every path needs of a layer beside its update.
struct LayerCall {
  const AdaptedLayer* adapted = nullptr;
  const Linear* base = nullptr;
  Tensor bias;  // b: of the base or what stands in for it, [d_out], or undefined
  bool trains_bias = false;
  double dropout = 0;  // of what the update reads
  uint64_t dropout_key = 0;

  /// W0, for one use: a quantised one is made anew.
  Tensor weight() const { return base->matrix(); }

  /// What dropout multiplies an update's input like `u` by; undefined where there is none.
  Tensor mask(const Tensor& u) const { return dropout > 0 ? dropout_mask(u, dropout, dropout_key) : Tensor(); }
};

}  // namespace deltaw::ops

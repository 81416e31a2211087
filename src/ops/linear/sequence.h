// A product in sequence: W is not formed, and the update's share goes through its factors.
//
//     z = u P0^T + scale h diag(middle) left^T + scale D(u) dense^T + b       h = D(u) right^T
//
// D is dropout, a product with a mask. From dz, all sums running over rows:
//
//     dleft   = scale dz^T h diag(middle)          dh      = scale dz left diag(middle)
//     dmiddle = sum of (scale dz left) * h         dright  = dh^T D(u)
//     ddense  = scale dz^T D(u)                    du      = dz P0 + D(dh right + scale dz dense)
//
// The thin products come first: the general ones add to what they leave as they write. Over a base that is multiplied
// in eight bits (ops/int8/product.h) u P0^T and dz P0 are; all else reads u and dz as they are. It knows no gains,
// which stand around it (ops/linear/gains.h).
#pragma once

#include <ATen/ATen.h>

#include "deltaw/method.h"
#include "ops/linear/frozen.h"
#include "ops/linear/layer_call.h"
#include "ops/linear/stack.h"

namespace deltaw::ops {

/// What is multiplied.
struct Product {
  FrozenMatrix weight;  // P0 [d_out, d_in]
  Update update;        // left, middle, right, dense and scale of it
  Tensor bias;          // what z begins with, [d_out] or undefined
};

struct Sequence {
  Tensor h;  // [tokens, k], kept from pass to pass; undefined without factors, and where it is in the group's stack

  /// z [tokens, d_out] of u [tokens, d_in].
  Tensor forward(const LayerCall& layer, const Product& product, const ProductInput& input,
                 const StackColumns& stacked);

  /// Gradients of the factors and of dense, where they train; adds to `du`, where that is asked for: without it
  /// product.weight is not read. Where h is stacked, dh is added to the stack's, and dright and du's share are left to
  /// the stack.
  Update backward(const Tensor& dz, const LayerCall& layer, const Product& product, const Tensor& u, Tensor* du,
                  const StackColumns& stacked) const;
};

}  // namespace deltaw::ops

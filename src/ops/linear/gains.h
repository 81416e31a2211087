// The gains of a layer, around P = W0 + scale (left diag(middle) right + dense), which knows none of them:
//
//     W = diag(out) P diag(in)
//
// In sequence they multiply what enters P and what leaves it (b' of ops/linear/bias.h, sums over rows):
//
//     u = x * in      z = u P^T         y = z * out + b'
//     dz = dy * out   dout = sum dy z   din = sum du * x    dx = du * in
//
// Where no element of `out` is near zero it stands in the rows of P instead, which are fewer than those of x. The
// output then serves the backward pass, and whoever reads it keeps it anyway. With b'' what of b' the gain does not
// multiply:
//
//     y = u P'^T + b'     P' = diag(out) P     dout = (sum dy * y - b'' sum dy) / out     dP = diag(out) dP'
//
// Folded, they multiply W's rows and columns (sums over columns and rows of W):
//
//     dout = sum dW * (P diag(in))     din = sum diag(out) dW * P     dP = diag(out) dW diag(in)
#pragma once

#include <ATen/ATen.h>

#include "deltaw/method.h"
#include "ops/linear/input.h"
#include "ops/linear/sequence.h"

namespace deltaw::ops {

/// A layer in sequence, with its gains where it has any.
struct GainedSequence {
  Sequence product;
  bool in_rows = false;  // `out` stands in the rows of P
  Tensor output;         // y where it does, else z; kept from pass to pass where there is an `out`

  /// The tensors that are kept from pass to pass.
  template <class Visit>
  void each_tensor(const Visit& visit) {
    visit(product.h);
    visit(output);
  }

  /// y [tokens, d_out] of x [tokens, d_in].
  Tensor forward(const LayerCall& layer, const Update& update, const ProductInput& input, const StackColumns& stacked);
  /// Gradients of the map's outputs; adds to input.dx.
  Update backward(const Tensor& dy, const LayerCall& layer, const Update& update, SharedInput& input,
                  const StackColumns& stacked) const;

 private:
  Tensor gain_gradient(const Tensor& dy, const LayerCall& layer, const Update& update) const;
};

/// Folded: dP from dW; sets the gains of `gradients`, that of `out` less the bias's share.
Tensor through_gains(const Tensor& dweight, const Tensor& P, const Update& update, Update& gradients);

}  // namespace deltaw::ops

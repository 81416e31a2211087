// Convolutions, as linear layers over patches.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/model.h"

namespace deltaw::ops {

/// x [batch, channels, rows, columns] -> [batch, d_out, rows', columns'] in x's type, with the kernel as the adapter of
/// `call` makes it; either may be without the batch. An adapted layer is the layer operation (ops/linear/linear.h) over
/// the patches of x, which it keeps for the backward pass; its dropout falls on patches. Throws shape.mismatch for
/// other channels, and for an image that is smaller than the kernel.
at::Tensor conv2d(const at::Tensor& x, const Conv2d& layer, Call& call);

}  // namespace deltaw::ops

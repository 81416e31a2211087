// The layer operation: a frozen linear layer under an adapter.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "deltaw/model.h"
#include "ops/activations.h"

namespace deltaw::ops {

/// y = x W^T + b with W as the adapter of `call` makes it. x [..., d_in] -> [..., d_out], in x's type.
/// Throws shape.mismatch when the widths differ.
at::Tensor linear(const at::Tensor& x, const Linear& layer, Call& call);

/// The same for layers that share their input (q, k, v; gate, up): x is kept once and its gradient summed in place.
std::vector<at::Tensor> linear_group(const at::Tensor& x, const std::vector<const Linear*>& layers, Call& call);

/// linear(act(x)), or linear(act(x) * up) where `up` is defined: x and up are kept, and the layer's input is computed
/// again in the backward pass.
at::Tensor activated_linear(const Activation& activation, const at::Tensor& x, const at::Tensor& up,
                            const Linear& layer, Call& call);

/// What a method's map_output() makes of a sublayer's output; `layer` is the sublayer's last linear layer. Models call
/// it after the sublayer's dropout and before the residual sum.
at::Tensor mapped_output(const at::Tensor& output, const Linear& layer, const Call& call);

}  // namespace deltaw::ops

// Adapted layers that read one input, as one autograd node: the input is kept once, and its gradient summed in place.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "ops/linear/input.h"
#include "ops/linear/layer_call.h"

namespace deltaw {
class FormedWeights;
}

namespace deltaw::ops {

/// y [tokens, d_out] of every layer, for an input in rows. `formed`, where there is one, outlives the backward pass.
Tensors linear_node(const Input& input, const std::vector<LayerCall>& layers, LinearPath path, FormedWeights* formed);

}  // namespace deltaw::ops

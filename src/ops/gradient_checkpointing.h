// Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): a block of layers keeps what enters it and computes the
// rest again in the backward pass.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "deltaw/model.h"

namespace deltaw::ops {

/// A part of a model's pass. It may read the trained leaf tensors of call.adapter; every other tensor that records a
/// gradient must be among `inputs`. It must own or outlive what it refers to: it runs again after the pass.
using Block = std::function<at::Tensor(const std::vector<at::Tensor>& inputs, Call& call)>;

/// block(inputs, call). Where call.recompute is set and gradients are recorded, only the inputs (some may be undefined)
/// are kept for the backward pass, which runs the block again with the same dropout masks. Gradients are those of the
/// block itself bit for bit, save for a leaf that several layers of several blocks share: its terms are added up block
/// by block. Passes with a cache or an observer run as they are.
at::Tensor checkpointed(const Block& block, const std::vector<at::Tensor>& inputs, Call& call);

}  // namespace deltaw::ops

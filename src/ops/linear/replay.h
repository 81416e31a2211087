// A method's map in the two passes. It is a pure function, so its results need not be kept: the backward pass calls it
// again and pulls the gradients of its outputs back through it.
#pragma once

#include <ATen/ATen.h>

#include "deltaw/active_updates.h"
#include "ops/linear/matrices.h"

namespace deltaw::ops {

/// The map on leaves that stand for the trained tensors, with its graph.
struct Replay {
  Tensors leaves;
  Update update;

  Replay(const AdaptedLayer& layer, const Tensors& trained);
  /// Gradients of the leaves from those of the map's outputs; an output that is a leaf costs nothing.
  Tensors pull_back(const Update& gradients) const;
};

/// The update without its graph.
Update detached(Update update);

}  // namespace deltaw::ops

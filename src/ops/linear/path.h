// Which way a layer is computed.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "ops/linear/layer_call.h"
#include "ops/linear/weight.h"

namespace deltaw::ops {

/// What the choice between the paths weighs, per layer. `tokens` rows of x; `k` columns of the left factor.
struct LinearCost {
  int64_t tokens = 0, d_in = 0, d_out = 0, k = 0;
  bool trains_left = false;  // else that factor is frozen
  bool trains_right = false;
  bool has_gains = false;     // on rows or columns of W, whose gradients are taken out of W's
  bool skips_zeros = false;   // products with the frozen factor do (ops/sign_matrix.h)
  bool int8_base = false;     // W0 is multiplied in eight bits, which W is not
  int64_t micro_batches = 1;  // that one W serves
};

/// The path of the fewest multiplications over a forward and a backward pass. Evaluation goes the same way, so that it
/// rounds as training did.
LinearPath cheapest_path(const LinearCost& cost);

/// A layer's update in one pass, and what follows from it.
struct PreparedLayer {
  Update update;  // without its graph
  TrainedFactors trained;
  SparseFactors sparse;
  LinearPath path = LinearPath::sequence;  // never automatic
};

/// Asks the method's map. `asked` is the path of the call; W would serve `micro_batches` passes of `tokens` rows.
PreparedLayer prepared(const LayerCall& layer, LinearPath asked, const Tensors& trained, int64_t tokens,
                       int64_t micro_batches = 1);

}  // namespace deltaw::ops

// A layer whose W is formed first, which is cheap for an update near the layer's width and many tokens:
//
//     y = x W^T + b'      dx = dy W
//
// W and b' are those of ops/linear/weight.h and ops/linear/bias.h. What trains gets its gradients from sums over the
// rows of dy and x: out of W's (ops/linear/folded.h) or past it (ops/linear/mixed.h). Both W and the sums can serve one
// pass or all micro-batches of an optimiser's step.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <variant>

#include "ops/linear/folded.h"
#include "ops/linear/mixed.h"
#include "ops/linear/path.h"

namespace deltaw::ops {

using FactorSums = std::variant<FoldedSums, MixedSums>;

/// In one pass: W is forgotten, and formed again in the backward pass.
struct FormedInPass {
  SparseFactors sparse;
  bool mixed = false;

  Tensor forward(const LayerCall& layer, const Update& update, const Tensor& x) const;
  /// Gradients of the map's outputs; adds to input.dx.
  Update backward(const Tensor& dy, const LayerCall& layer, const Update& update, SharedInput& input) const;
};

/// In the passes of one step: W is formed once, and the method's map is asked for gradients at the end.
class FormedForStep {
 public:
  /// None where the layer goes in sequence. `tokens` rows of x in each of `micro_batches`.
  static std::optional<FormedForStep> find(const LayerCall& layer, LinearPath asked, const Tensors& trained,
                                           int64_t tokens, int64_t micro_batches);
  /// What that holds at most, over a base of the given type; 0 where there is none.
  static int64_t bytes(const LayerCall& layer, const PreparedLayer& prepared, at::ScalarType type);

  Tensor forward(const Tensor& x) const { return at::linear(x, weight_, bias_); }
  /// Adds to the sums and to input.dx.
  void backward(const Tensor& dy, SharedInput& input);

  const AdaptedLayer& adapted() const { return *layer_.adapted; }
  /// Gradients of the trained tensors, of all passes together.
  Tensors pull_back(const Tensors& trained) const;

 private:
  FormedForStep(const LayerCall& layer, const PreparedLayer& prepared);

  LayerCall layer_;
  SparseFactors sparse_;
  Tensor weight_, bias_;  // in x's type
  FactorSums sums_;       // in the type of the factors
};

}  // namespace deltaw::ops

// W of the layers that are folded, kept for all micro-batches of one optimiser step.
#pragma once

#include <map>
#include <optional>

#include "deltaw/active_updates.h"
#include "deltaw/model.h"
#include "ops/linear/formed.h"

namespace deltaw {

/// A folded layer forms W in its forward pass, and in its backward pass makes gradients of the method's tensors from
/// dW. Over several micro-batches both can be done once: W is formed when a layer is first met, the micro-batches' dW
/// are added up, and finish() makes the gradients. Until then it keeps W and dW of each folded layer.
///
/// Put one into Call::formed for the passes of one optimiser step. Not for several threads at once.
class FormedWeights {
 public:
  /// For so many passes of one adapter, which must outlive it.
  explicit FormedWeights(int64_t micro_batches) : micro_batches_(micro_batches) {}

  /// The bytes that it keeps for this adapter over micro-batches of so many tokens; 0: no layer gains by it.
  static int64_t bytes(const ActiveUpdates& adapter, int64_t tokens, int64_t micro_batches);

  /// The kept layer, formed when it is first asked for; null where it goes in sequence. `trained` are the method's
  /// tensors, `tokens` the rows of x.
  ops::FormedForStep* find(const ops::LayerCall& layer, LinearPath path, const ops::Tensors& trained, int64_t tokens);

  /// Adds what the passes found to the gradients of the trained tensors.
  void finish();

 private:
  int64_t micro_batches_;
  std::map<int64_t, std::optional<ops::FormedForStep>> layers_;  // by Layer::index; none: not folded
};

}  // namespace deltaw

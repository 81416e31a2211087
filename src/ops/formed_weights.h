// W of the layers that are folded, kept for all micro-batches of one optimiser step.
#pragma once

#include <map>
#include <optional>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "ops/linear_item.h"

namespace deltaw {

/// A folded layer forms W in every pass, and takes dW apart into the gradients of the method's tensors. Over several
/// micro-batches both can be done once: W is formed when a layer is first met, dW is added up, and finish() asks the
/// method's map. That keeps two matrices of each folded layer's size until then.
///
/// Put one into Call::formed for the passes of one optimiser step. Not for several threads at once.
class FormedWeights {
 public:
  /// For so many passes of one adapter, which must outlive it.
  explicit FormedWeights(int64_t micro_batches) : micro_batches_(micro_batches) {}

  /// What it keeps of this adapter over micro-batches of so many tokens, in bytes; 0 where there is nothing to keep and
  /// it is of no use.
  static int64_t bytes(const Adapter& adapter, int64_t tokens, int64_t micro_batches);

  /// The kept layer behind an item, formed now where the item is folded; null where it is not. `trained` are the
  /// method's tensors, `tokens` the rows of x.
  ops::Formed* find(const ops::Item& item, LinearPath path, const ops::Tensors& trained, int64_t tokens);

  /// Adds what the passes found to the gradients of the trained tensors.
  void finish();

 private:
  int64_t micro_batches_;
  std::map<int64_t, std::optional<ops::Formed>> layers_;  // by Layer::index, once asked for; none: not folded
};

}  // namespace deltaw

// One linear layer of a group that shares its input: both paths, forward and backward, in plain tensors. ops/linear.cpp
// makes an autograd node of them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "ops/sign_matrix.h"

namespace deltaw::ops {

using Tensors = std::vector<Tensor>;

/// `tensor` in the type of `like`.
inline Tensor as(const Tensor& tensor, const Tensor& like) {
  return tensor.scalar_type() == like.scalar_type() ? tensor : tensor.to(like.scalar_type());
}

struct Formed;

/// The factors that no trained tensor enters, where products with them skip zeros. The transpose of the right one.
struct SparseFactors {
  std::shared_ptr<const SignMatrix> left, turned_right;
};

/// What its forward pass decided and its backward pass needs again.
struct Item {
  const AdaptedLayer* adapted = nullptr;
  const Linear* layer = nullptr;
  Tensor bias;               // [d_out] or undefined
  size_t first_input = 0;    // of its tensors among the function's inputs
  size_t params = 0;         // trained tensors of the method
  bool trains_bias = false;  // one more input after them
  bool folded = false;
  SparseFactors sparse;      // of a folded layer
  Formed* formed = nullptr;  // or none: then W is formed here and forgotten
  uint64_t dropout_key = 0;
  double dropout = 0;
  int64_t saved_h = -1;  // index of x right^T among the saved tensors
  int64_t h_begin = 0;   // its first column there
  bool stacked = false;  // its right factor is in the plan's stack, where layers of one frozen factor share a place
  bool trains_right = false;
  int64_t saved_z = -1;  // index of the output before its gain, or
  int64_t saved_y = -1;  // of the output, from which the other follows
};

/// The method's map with its graph, on leaves that stand for the trained tensors.
struct Replay {
  Tensors leaves;
  Update update;

  Replay(const Item& item, const Tensors& trained);
  /// Gradients of the leaves from those of the map's outputs; an output that is a leaf costs nothing.
  Tensors pull_back(const Update& gradients) const;
};

/// What the map says of the trained tensors, and the path that follows from it. `tokens` rows of x; W serves
/// `micro_batches` passes.
Update prepared(Item& item, LinearPath path, const Tensors& trained, int64_t tokens, int64_t micro_batches = 1);

/// A folded layer over several micro-batches (ops/formed_weights.h).
struct Formed {
  Item item;
  Tensor weight, bias;   // W with its gains and what is added to x W^T, in x's type
  Tensor dweight, dsum;  // sums of dy^T x and, where bias or gains need it, of dy: in the type of the factors

  void add(const Tensor& x, const Tensor& dy);
  /// Gradients of the trained tensors.
  Tensors pull_back(const Tensors& trained) const;
};
/// Nothing where the item is not folded.
std::optional<Formed> formed(Item item, LinearPath path, const Tensors& trained, int64_t tokens, int64_t micro_batches);

/// Right factors of layers that read x as it is stand one below the other, so that x is read once for all of them; one
/// that several layers have (VeRA's, with the middle gain apart) stands there once. Adds x right^T to `saved` and
/// answers its index; -1 where fewer than two layers can share it.
int64_t stack(std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& x, Tensors& saved);

/// y [tokens, d_out] of x [tokens, d_in]. Adds to `saved` what the backward pass reads.
Tensor forward_item(const Tensor& x, Item& item, const Update& update, Tensors& saved);

/// Gradients of the map's outputs from dy; adds the item's share to dx, where that is asked for. Of a stacked item the
/// gradient of x right^T goes to the item's columns of `stacked_dh`, and the rest is left to backward_stack.
Update backward_item(const Tensor& x, const Tensor& dy, const Item& item, const Update& update, const Tensors& saved,
                     const Tensor& stacked_dh, Tensor& dx, bool needs_dx);

/// What the items of the stack have left: their share of dx, where there is one, and `right` of their gradients `own`.
void backward_stack(const std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& x,
                    const Tensor& dh, std::vector<Update>& own, Tensor& dx);

}  // namespace deltaw::ops

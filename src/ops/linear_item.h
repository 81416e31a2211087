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
  bool folded = false;       // W is formed
  bool mixed = false;        // and the factors' gradients do not come out of W's
  SparseFactors sparse;      // of a folded layer
  Formed* formed = nullptr;  // or none: then W is formed here and forgotten
  uint64_t dropout_key = 0;
  double dropout = 0;
  int64_t saved_h = -1;      // index of x right^T among the saved tensors
  int64_t h_begin = 0;       // its first column there
  bool stacked = false;      // its right factor is in the plan's stack, where layers of one frozen factor share a place
  bool trains_left = false;  // or the gain behind it: the gradients of both are one product
  bool trains_right = false;
  bool sums_dy = false;  // bias or gains need the sum of dy over the rows
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

/// What the items of a group share in their backward pass.
struct BackwardPass {
  Tensor x;              // [tokens, d_in]
  const Tensors& saved;  // of the forward pass
  bool needs_dx = false;
  Tensor dx;          // the sum so far
  Tensor stacked_dh;  // of x right^T of the stack, where there is one

  /// x right^T, computed once for the items that have the same factor.
  Tensor times_right(const Tensor& right);

  std::vector<std::pair<Tensor, Tensor>> products;  // right factors, and what came of them
};

/// Sums over the rows of x and dy that the gradients of a folded layer are made of: W's own, or what its products with
/// the factors make of it, which takes fewer multiplications where one factor is frozen and not as wide as W.
struct FoldedSums {
  Tensor weight;  // dy^T x [d_out, d_in]
  Tensor left;    // dy^T x right^T [d_out, k]
  Tensor right;   // (left diag(middle))^T dy^T x [k, d_in]
  Tensor rows;    // of dy [d_out]

  /// Adds what the item needs of a pass. `update` need hold no more than Formed's factors.
  void add(const Item& item, const Update& update, const Tensor& dy, BackwardPass& pass);
};

/// A folded layer over several micro-batches (ops/formed_weights.h).
struct Formed {
  Item item;
  Tensor weight, bias;  // W with its gains and what is added to x W^T, in x's type
  Update factors;       // what the sums of a mixed layer multiply by, from when W was formed
  FoldedSums sums;      // in the type of the factors

  /// Gradients of the trained tensors.
  Tensors pull_back(const Tensors& trained) const;
};
/// Nothing where the item is not folded.
std::optional<Formed> formed(Item item, LinearPath path, const Tensors& trained, int64_t tokens, int64_t micro_batches);
/// What that holds at most, over a base of the given type.
int64_t bytes_if_formed(const Item& item, const Update& update, at::ScalarType type);

/// Right factors of layers that read x as it is stand one below the other, so that x is read once for all of them; one
/// that several layers have (VeRA's, with the middle gain apart) stands there once. Adds x right^T to `saved` and
/// answers its index; -1 where fewer than two layers can share it.
int64_t stack(std::vector<Item>& items, const std::vector<Update>& updates, const Tensor& x, Tensors& saved);

/// y [tokens, d_out] of x [tokens, d_in]. Adds to `saved` what the backward pass reads.
Tensor forward_item(const Tensor& x, Item& item, const Update& update, Tensors& saved);

/// Gradients of the map's outputs from dy; adds the item's share to dx, where that is asked for. Of a stacked item the
/// gradient of x right^T goes to the item's columns of `stacked_dh`, and the rest is left to backward_stack.
Update backward_item(const Tensor& dy, const Item& item, const Update& update, BackwardPass& pass);

/// What the items of the stack have left: their share of dx, where there is one, and `right` of their gradients `own`.
void backward_stack(const std::vector<Item>& items, const std::vector<Update>& updates, std::vector<Update>& own,
                    BackwardPass& pass);

}  // namespace deltaw::ops

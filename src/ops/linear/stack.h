// The right factors of layers that read x as it is, one below the other, so that x is read once for all of them:
//
//     R = [right_1; right_2; ...]      H = x R^T      dR = dH^T x      dx += dH R
//
// A frozen factor that several layers have (VeRA's: its gain stands apart, in the middle) is there once; their dh add
// up in one place.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "deltaw/method.h"
#include "ops/linear/input.h"

namespace deltaw::ops {

/// Columns of H and dH that are one layer's; undefined where it is not in the stack, dh in the forward pass too.
struct StackColumns {
  at::Tensor h, dh;
};

class Stack {
 public:
  /// One for each layer of the group.
  struct Candidate {
    at::Tensor right;  // undefined where the layer takes no part
    bool trains = false;
  };

  Stack() = default;
  /// Fewer than two layers make no stack.
  explicit Stack(const std::vector<Candidate>& candidates);

  StackColumns columns(size_t layer) const;

  /// `updates` are those of the group's layers, in both passes.
  void forward(const at::Tensor& x, const std::vector<Update>& updates);
  /// Before the layers' backward passes, which add to their columns of dH; and after them: what they left, dx's share
  /// and `right` of their gradients.
  void begin_backward();
  void backward(SharedInput& input, const std::vector<Update>& updates, std::vector<Update>& gradients) const;

  at::Tensor h;  // H [tokens, .], kept from pass to pass; undefined without a stack

 private:
  struct Place {
    int64_t begin = 0, width = 0;  // rows of R
    bool shared = false;           // with an earlier layer
  };
  at::Tensor stacked(const std::vector<Update>& updates, const at::Tensor& like) const;

  std::vector<std::optional<Place>> places_;  // by layer
  at::Tensor dh_;
};

}  // namespace deltaw::ops

// What the layers of a group read.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <utility>
#include <vector>

#include "ops/activations.h"
#include "ops/linear/matrices.h"
#include "ops/thin.h"

namespace deltaw::ops {

/// x, or the value of an activation, which is then never kept: act(x), times `up` where there is one.
struct Input {
  at::Tensor x;
  std::optional<at::Tensor> up = std::nullopt;
  const Activation* activation = nullptr;  // of the model, which outlives the pass; or none

  at::Tensor value() const { return activation ? activation->value(x, gate()) : x; }
  /// The value, with autograd recording how it came about.
  at::Tensor recorded() const {
    if (!activation) return x;
    return up ? activation->gated(x, *up) : (*activation)(x);
  }
  /// The same as matrices: [tokens, width].
  Input in_rows() const {
    const auto rows = [](const at::Tensor& t) { return t.reshape({t.numel() / t.size(-1), t.size(-1)}); };
    return {rows(x), up ? std::optional(rows(*up)) : std::nullopt, activation};
  }
  /// Gradients of x and up from that of the value.
  std::pair<at::Tensor, at::Tensor> backward(const at::Tensor& dvalue) const {
    if (!activation || !dvalue.defined()) return {dvalue, at::Tensor()};
    const Activation::Backward through = activation->backward(x, gate(), dvalue);
    return {through.dx, through.dup};
  }

 private:
  at::Tensor gate() const { return up.value_or(at::Tensor()); }
};

/// The value in a backward pass: all layers of the group read it, and add to its gradient.
struct SharedInput {
  at::Tensor x;           // [tokens, d_in]
  bool needs_dx = false;  // else dx stays undefined
  at::Tensor dx = {};     // the sum so far

  /// x right^T, computed once for the layers that have the same factor.
  at::Tensor times_right(const at::Tensor& right) {
    for (const auto& [known, product] : products) {
      if (same_matrix(known, right)) return product;
    }
    return products.emplace_back(right, thin_of(x, as(right, x))).second;
  }

  std::vector<std::pair<at::Tensor, at::Tensor>> products = {};  // right factors, and what came of them
};

}  // namespace deltaw::ops

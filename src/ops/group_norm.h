// GroupNorm (Wu and He 2018, arXiv:1803.08494), alone or with the SiLU that follows it in UNets. On CPUs in float32 and
// bfloat16 it is one pass that keeps its input and two numbers a group: the backward pass computes the rest again.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "deltaw/model.h"

namespace deltaw::ops {

/// act(GroupNorm(x)) of x [batch, channels, ...], each group's channels together; statistics in float32 at least.
/// `weight` and `bias`, of x's type, are [channels], or [batch, channels] where every picture has its own. `channels`
/// must be a multiple of `groups`.
at::Tensor group_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t groups, double eps,
                      bool silu);

/// A norm of a model whose parameters are [channels].
struct GroupNorm {
  const Norm* norm = nullptr;
  int64_t groups = 1;

  at::Tensor operator()(const at::Tensor& x, const Call& call) const;
  /// silu(GroupNorm(x))
  at::Tensor silu(const at::Tensor& x, const Call& call) const;
  /// silu((1 + scale) GroupNorm(x) + shift), both [batch, channels].
  at::Tensor silu(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift, const Call& call) const;
};

}  // namespace deltaw::ops

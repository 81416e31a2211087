// The activations of feed-forward layers. On CPUs in float32 and bfloat16 each is one pass forward and one backward,
// computed in float32; the result is rounded once.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace deltaw::ops {

class Activation {
 public:
  /// The activation that config.json calls `name`. Throws config.unsupported naming `key`.
  explicit Activation(const std::string& name, const char* key = "hidden_act");

  /// act(x). Keeps x alone.
  at::Tensor operator()(const at::Tensor& x) const;
  /// act(x) * up, both of one shape and type. Keeps x and up alone.
  at::Tensor gated(const at::Tensor& x, const at::Tensor& up) const;

  /// The same without autograd, for operations that compute it again in their backward pass: act(x), times `up` where
  /// that is defined.
  at::Tensor value(const at::Tensor& x, const at::Tensor& up) const;
  struct Backward {
    at::Tensor value;    // as value() gives it
    at::Tensor dx, dup;  // the latter undefined without `up`
  };
  /// The value and the gradients of x and up from its gradient `dy`, in one pass.
  Backward backward(const at::Tensor& x, const at::Tensor& up, const at::Tensor& dy) const;

  enum class Kind { gelu, gelu_tanh, quick_gelu, relu, silu, tanh };

 private:
  Kind kind_;
};

}  // namespace deltaw::ops

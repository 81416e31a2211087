// A frozen weight as its GGUF file holds it.
#pragma once

#include <memory>

#include "deltaw/method.h"
#include "io/tensor_file.h"
#include "ops/quantised.h"

namespace deltaw {

/// W0 [d_out, d_in] in the blocks of a mapped file: nothing is copied, and every use makes the numbers anew.
class GgufWeight final : public Quantised {
 public:
  /// `tensor` is of a block type, in the layout of `kind`; `file` keeps it mapped.
  GgufWeight(io::TensorBytes tensor, LayerKind kind, at::ScalarType type, std::shared_ptr<const void> file);

  at::Tensor dequantised() const override;
  int64_t nbytes() const override { return static_cast<int64_t>(tensor_.size()); }
  std::string name() const override { return io::dtype_name(tensor_.dtype); }

 private:
  io::TensorBytes tensor_;
  LayerKind kind_;
  std::shared_ptr<const void> file_;
};

}  // namespace deltaw

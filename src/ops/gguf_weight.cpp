#include "ops/gguf_weight.h"

#include <ATen/Parallel.h>

#include "io/decode.h"

namespace deltaw {
namespace {

constexpr int64_t kGrain = 16;  // rows that one thread takes at least

int64_t width_of(const io::TensorBytes& tensor) {
  return tensor.count() / tensor.shape[0];
}

}  // namespace

GgufWeight::GgufWeight(io::TensorBytes tensor, LayerKind kind, at::ScalarType type, std::shared_ptr<const void> file)
    : Quantised(kind == LayerKind::conv1d ? width_of(tensor) : tensor.shape[0],
                kind == LayerKind::conv1d ? tensor.shape[0] : width_of(tensor), type),
      tensor_(std::move(tensor)),
      kind_(kind),
      file_(std::move(file)) {}

at::Tensor GgufWeight::dequantised() const {
  const at::NoGradGuard frozen;
  at::Tensor numbers = at::empty(tensor_.shape, at::kFloat);
  auto* out = numbers.mutable_data_ptr<float>();
  if (tensor_.undo) {  // which needs all rows
    io::decode(tensor_, {out, static_cast<size_t>(numbers.numel())});
  } else {
    const int64_t width = width_of(tensor_);
    at::parallel_for(0, tensor_.shape[0], kGrain, [&](int64_t first, int64_t last) {
      io::decode_rows(tensor_, first, {out + first * width, static_cast<size_t>((last - first) * width)});
    });
  }
  return (kind_ == LayerKind::conv1d ? numbers.t() : numbers).to(type()).contiguous();
}

}  // namespace deltaw

#include "train/gradients.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "deltaw/error.h"
#include "ops/host_read.h"

namespace deltaw::train {
namespace {

std::vector<Tensor> gradients_of(const std::vector<NamedTensor>& tensors) {
  std::vector<Tensor> gradients;
  gradients.reserve(tensors.size());
  for (const NamedTensor& tensor : tensors) {
    if (tensor.value.grad().defined()) gradients.push_back(tensor.value.grad());
  }
  return gradients;
}

bool is_finite(const Tensor& tensor) {
  return ops::host_flag(at::isfinite(tensor).all());
}

std::string first_bad(const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& tensor : tensors) {
    if (!is_finite(tensor.value)) return fmt::format("tensor '{}'", tensor.name);
  }
  for (const NamedTensor& tensor : tensors) {
    if (tensor.value.grad().defined() && !is_finite(tensor.value.grad())) {
      return fmt::format("gradient of '{}'", tensor.name);
    }
  }
  return "the loss; all trained tensors and gradients are finite";
}

}  // namespace

double gradient_norm(const std::vector<NamedTensor>& tensors) {
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> gradients = gradients_of(tensors);
  if (gradients.empty()) return 0;
  return ops::host_number(at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2));
}

void clip_gradients(const std::vector<NamedTensor>& tensors, double norm, double max_norm) {
  const double coefficient = max_norm / (norm + 1e-6);
  if (!(coefficient < 1)) return;
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> gradients = gradients_of(tensors);
  at::_foreach_mul_(gradients, coefficient);
}

void clear_gradients(const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& tensor : tensors) tensor.value.mutable_grad() = Tensor();
}

void check_all_reached(const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& tensor : tensors) {
    if (tensor.value.grad().defined()) continue;
    throw Error({.id = "internal.no-gradient",
                 .what = "the backward pass gave this trained tensor no gradient",
                 .where = fmt::format("tensor '{}'", tensor.name),
                 .fix = "report this with the command; exclude_modules can leave the layer out until then"});
  }
}

void check_finite(const std::vector<NamedTensor>& tensors, double loss, double norm, int64_t step) {
  if (std::isfinite(loss) && std::isfinite(norm)) return;
  const at::NoGradGuard no_grad;
  throw Error({.id = "numeric.non-finite",
               .what = fmt::format("loss {} and gradient norm {} at step {}", loss, norm, step),
               .where = first_bad(tensors),
               .fix =
                   "lower learning_rate, warm up longer, or compute with --dtype float32; the last checkpoint is from "
                   "before this step"});
}

}  // namespace deltaw::train

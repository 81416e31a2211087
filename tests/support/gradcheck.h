// Gradients against central differences in float64.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <functional>
#include <sstream>
#include <string>

namespace deltaw::test {

/// The worst disagreement between `gradient` and central differences of `loss` in every element of `tensor`, as text
/// with element and values; empty when all agree within 1e-7 of the larger of one and their size.
inline std::string check_gradient(const std::function<double()>& loss, at::Tensor tensor, const at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  if (!gradient.defined()) return "there is no gradient";
  if (gradient.sizes() != tensor.sizes()) return "the gradient has another shape";
  constexpr double kStep = 1e-5;
  const at::Tensor flat = tensor.view(-1);
  double worst = 0;
  std::ostringstream text;
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const double value = flat[i].item<double>();
    flat[i].fill_(value + kStep);
    const double up = loss();
    flat[i].fill_(value - kStep);
    const double down = loss();
    flat[i].fill_(value);
    const double expected = (up - down) / (2 * kStep), actual = gradient.reshape(-1)[i].item<double>();
    const double error = std::abs(expected - actual) / std::max(1.0, std::abs(expected));
    if (!(error <= 1e-7) && !(error <= worst)) {
      worst = error;
      text.str("");
      text << "element " << i << ": differences give " << expected << ", the gradient is " << actual;
    }
  }
  return text.str();
}

}  // namespace deltaw::test

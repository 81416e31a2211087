#include "adapt/comparison.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace deltaw {

Tensor logits_of(const Model& model, const Adapter* adapter, const ModelInput& probe) {
  const at::NoGradGuard no_grad;
  Call call{.adapter = adapter};
  const Tensor logits = model.forward(probe, call).to(at::kDouble);
  return model.is_causal() ? logits.index({probe.attention_mask.ne(0)}) : logits;
}

void compare(WriteReport& report, const Tensor& expected, const Tensor& actual, bool half) {
  report.max_difference = (expected - actual).abs().max().item<double>();
  report.tolerance = (half ? 2e-2 : 1e-4) * std::max(1.0, expected.abs().max().item<double>());
  report.passed = report.max_difference <= report.tolerance;
}

}  // namespace deltaw

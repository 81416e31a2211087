#include "adapt/compared_outputs.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace deltaw {
namespace {

double largest(const Tensor& tensor) {
  return tensor.numel() > 0 ? tensor.abs().max().item<double>() : 0;
}

}  // namespace

double Compared::difference() const {
  return largest(written - adapter);
}

double Compared::tolerance() const {
  return std::max(1e-4 * std::max(1.0, largest(adapter)), 1e-2 * largest(adapter - base));
}

double Compared::share() const {
  const double apart = (written - adapter).norm().item<double>(), change = (adapter - base).norm().item<double>();
  if (apart <= 1e-6 * adapter.norm().item<double>()) return 0;
  return apart / change;
}

}  // namespace deltaw

#include "adapt/compared_outputs.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/host_read.h"

namespace deltaw {
namespace {

double largest(const Tensor& tensor) {
  return tensor.numel() > 0 ? ops::host_number(tensor.abs().max()) : 0;
}

}  // namespace

double Compared::difference() const {
  return largest(written - adapter);
}

double Compared::tolerance() const {
  return std::max(1e-4 * std::max(1.0, largest(adapter)), 1e-2 * largest(adapter - base));
}

double Compared::share() const {
  const double apart = ops::host_number((written - adapter).norm()), change = ops::host_number((adapter - base).norm());
  if (apart <= 1e-6 * ops::host_number(adapter.norm())) return 0;
  return apart / change;
}

}  // namespace deltaw

#include "ops/vector_math.h"

#include <ATen/ATen.h>

namespace deltaw::ops {

void settle_vector_math() {
  // Those that ATen/cpu/vml.h takes from MKL.
  using Function = at::Tensor (*)(const at::Tensor&);
  constexpr Function kFunctions[] = {at::acos, at::asin, at::atan,  at::cos, at::erf,  at::erfc, at::erfinv, at::exp,
                                     at::log,  at::log2, at::log10, at::sin, at::sqrt, at::tan,  at::tanh,   at::trunc};
  static const bool settled = [&] {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      for (const Function function : kFunctions) function(at::zeros({1}, type));
    }
    return true;
  }();
  (void)settled;
}

}  // namespace deltaw::ops

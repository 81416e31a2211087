// Whether what was written does what the adapter does.
#pragma once

#include "deltaw/adapter.h"

namespace deltaw {

/// Logits of `probe` where it is no padding, in float64.
Tensor logits_of(const Model& model, const Adapter* adapter, const ModelInput& probe);

/// Fills in what `actual` makes of the report; `half`: something in between was rounded to 16 bits.
void compare(WriteReport& report, const Tensor& expected, const Tensor& actual, bool half);

}  // namespace deltaw

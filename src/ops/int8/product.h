// Products with a frozen W0 [d_out, d_in] in eight bits, both ways. W0 is held as codes C with a scale for each row
// (ops/int8/weight.h); what is multiplied with it is quantised by rows (ops/int8/rows.h):
//
//     W0 = diag(s) C       x ~ diag(t) X       dy diag(s) ~ diag(u) Y
//
//     x W0^T ~ diag(t) (X C^T) diag(s)         dy W0 ~ diag(u) (Y C)
//
// The scales of W0 are multiplied into dy before that is quantised, so that the same codes serve both ways: as columns
// of their own a sum over d_out could not leave them out. X C^T and Y C are sums of whole numbers, the same whichever
// unit of the processor and however many threads add them up.
#pragma once

#include <ATen/ATen.h>

#include "ops/int8/blocks.h"
#include "ops/int8/rows.h"
#include "ops/int8/weight.h"

namespace deltaw::ops {

/// x W0^T + bias in `type`; the bias [d_out] may be undefined.
at::Tensor int8_product(const Int8Rows& x, const Int8Weight& weight, const at::Tensor& bias, at::ScalarType type,
                        const Int8Units& units = int8_units().front());
/// y += x W0^T.
void add_int8_product(at::Tensor& y, const Int8Rows& x, const Int8Weight& weight,
                      const Int8Units& units = int8_units().front());
/// dx += dy W0; a dx that is undefined begins here, in dy's type.
void add_int8_gradient(at::Tensor& dx, const at::Tensor& dy, const Int8Weight& weight,
                       const Int8Units& units = int8_units().front());

/// Bytes that products need at hand beside W0: the parts of it that threads have turned.
int64_t bytes_at_hand(const Int8Weight& weight);

}  // namespace deltaw::ops

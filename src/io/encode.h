// Numbers of float32 to what a file stores.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "io/tensor_file.h"

namespace deltaw::io {

/// Writes `in` as F32, F16, BF16 (rounded to the nearest, of two to the even one) or Q8_0 (as ggml's reference: the
/// scale is the largest size by 127, halves are rounded away from zero). `out` has stored_size() bytes. Throws
/// numeric.non-finite naming `where` for a number that is no number or that the type cannot hold (from 65520 on in
/// F16), internal.tensor for another type or size.
void encode(Dtype dtype, std::span<const float> in, std::span<std::byte> out, const std::string& where);

}  // namespace deltaw::io

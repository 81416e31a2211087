// Stored numbers to float32, those of GGUF's block types too.
#pragma once

#include <span>

#include "io/tensor_file.h"

namespace deltaw::io {

/// Writes the tensor's numbers, row-major in its shape, and applies `undo`. Bit for bit what the Python package `gguf`
/// dequantises; F64 is rounded to the nearest. Throws internal.tensor for whole numbers and for an `out` of another
/// size.
void decode(const TensorBytes& tensor, std::span<float> out);

/// The rows from `first` on, as many as `out` holds: the last dimension is a row. In the order in which they are
/// stored: `undo`, which needs all of them, is left to the caller. Throws as decode does.
void decode_rows(const TensorBytes& tensor, int64_t first, std::span<float> out);

}  // namespace deltaw::io

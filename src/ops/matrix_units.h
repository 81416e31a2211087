// Products of pairs in the matrix units that some processors have (AMX): a register holds a tile of 16 rows of 64
// bytes.
#pragma once

#include <cstdint>

#include "ops/amx.h"
#include "ops/tiles.h"

#if defined(DELTAW_BF16_UNITS) && defined(DELTAW_AMX)
#define DELTAW_MATRIX_UNITS
#endif

namespace deltaw::ops {

/// Rows of a tile, and numbers of 32 bits in a row of it: floats of the result, pairs along the depth.
constexpr int64_t kUnitEdge = 16;

/// Whether the processor has AMX_TILE and AMX_BF16 (and AVX512_BF16), and the system lets this process use them.
bool has_matrix_units();

#if defined(DELTAW_MATRIX_UNITS)
/// add_product of whole tiles: `rows`, `columns` and `pairs` are multiples of kUnitEdge. Needs has_matrix_units().
void add_product_in_units(Left<Pair> a, Right<Pair> b, float* c, int64_t c_row, int64_t rows, int64_t columns,
                          int64_t pairs, Into into);
#endif

}  // namespace deltaw::ops

#include "ops/matrix_units.h"

#include <ATen/cpu/Utils.h>

#include <algorithm>

#include "ops/turn.h"

namespace deltaw::ops {

#if defined(DELTAW_MATRIX_UNITS)
namespace {

constexpr int64_t kDepth = 64;  // pairs that are turned at a time

// c += a b or c = a b: one or two tiles below each other, one or two beside each other. Rows of `a` lie without gaps
// between pairs.
template <bool kTwoRows, bool kTwoColumns>
DELTAW_AMX void tiles(Left<Pair> a, Right<Pair> b, float* c, int64_t c_row, int64_t pairs, Into into) {
  const auto stride = [](int64_t row) { return static_cast<size_t>(row) * sizeof(Pair); };
  const Pair* a2 = a.data + kUnitEdge * a.row;
  float* c2 = c + kUnitEdge * c_row;
  if (into == Into::fresh) {
    _tile_zero(0);
    if (kTwoColumns) _tile_zero(1);
    if (kTwoRows) _tile_zero(2);
    if (kTwoRows && kTwoColumns) _tile_zero(3);
  } else {
    _tile_loadd(0, c, stride(c_row));
    if (kTwoColumns) _tile_loadd(1, c + kUnitEdge, stride(c_row));
    if (kTwoRows) _tile_loadd(2, c2, stride(c_row));
    if (kTwoRows && kTwoColumns) _tile_loadd(3, c2 + kUnitEdge, stride(c_row));
  }
  for (int64_t k = 0; k < pairs; k += kUnitEdge) {
    _tile_loadd(4, a.data + k, stride(a.row));
    _tile_loadd(6, b.data + k * b.row, stride(b.row));
    _tile_dpbf16ps(0, 4, 6);
    if (kTwoColumns) {
      _tile_loadd(7, b.data + k * b.row + kUnitEdge, stride(b.row));
      _tile_dpbf16ps(1, 4, 7);
    }
    if (kTwoRows) {
      _tile_loadd(5, a2 + k, stride(a.row));
      _tile_dpbf16ps(2, 5, 6);
      if (kTwoColumns) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, stride(c_row));
  if (kTwoColumns) _tile_stored(1, c + kUnitEdge, stride(c_row));
  if (kTwoRows) _tile_stored(2, c2, stride(c_row));
  if (kTwoRows && kTwoColumns) _tile_stored(3, c2 + kUnitEdge, stride(c_row));
}

}  // namespace

bool has_matrix_units() {
  static const bool has = has_bf16_units() && __builtin_cpu_supports("amx-bf16") && at::cpu::init_amx();
  return has;
}

DELTAW_AMX
void add_product_in_units(Left<Pair> a, Right<Pair> b, float* c, int64_t c_row, int64_t rows, int64_t columns,
                          int64_t pairs, Into into) {
  alignas(64) Pair turned[2 * kUnitEdge * kDepth];
  const bool turns = a.column != 1;
  begin_amx();
  for (int64_t from = 0; from < pairs; from += turns ? kDepth : pairs) {
    const int64_t depth = turns ? std::min(kDepth, pairs - from) : pairs;
    const Into to = from > 0 ? Into::sum : into;
    for (int64_t i = 0; i < rows; i += 2 * kUnitEdge) {
      const int64_t count = std::min(2 * kUnitEdge, rows - i);
      Left<Pair> left{a.data + i * a.row + from * a.column, a.row, a.column};
      if (turns) {
        turn(left.data, a.column, depth, count, turned, kDepth);
        left = {turned, kDepth, 1};
      }
      for (int64_t j = 0; j < columns; j += kTileColumns) {
        const Right<Pair> right{b.data + from * b.row + j, b.row};
        const bool two_rows = count == 2 * kUnitEdge, two_columns = columns - j > kUnitEdge;
        const auto run = two_rows ? (two_columns ? tiles<true, true> : tiles<true, false>)
                                  : (two_columns ? tiles<false, true> : tiles<false, false>);
        run(left, right, c + i * c_row + j, c_row, depth, to);
      }
    }
  }
  end_amx();
}
#else
bool has_matrix_units() {
  return false;
}
#endif

}  // namespace deltaw::ops

#include "ops/int8/weight.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

namespace deltaw::ops {
namespace {

using at::Tensor;

// Four codes of a row of C stand together in a tile too: calls copy(place in rows, place in tiles, how many).
template <class Copy>
void each_four(int64_t rows, int64_t width, const Copy& copy) {
  at::parallel_for(0, rows, kTileEdge, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t tiles = row / kTileEdge * parts_of(width, kTileDepth) * kTileCodes + row % kTileEdge * kFour;
      for (int64_t k = 0; k < width; k += kFour) {
        copy(row * width + k, tiles + k * kTileEdge, std::min(kFour, width - k));
      }
    }
  });
}

void copy_four(const int8_t* from, int8_t* to, int64_t count) {
  if (count == kFour) {
    std::memcpy(to, from, kFour);
  } else {
    std::copy_n(from, count, to);
  }
}

}  // namespace

Int8Weight::Int8Weight(const Tensor& codes, const Tensor& scales)
    : d_out_(codes.size(0)), d_in_(codes.size(1)), scales_(scales.to(at::kFloat).contiguous()) {
  const Tensor rows = codes.contiguous();
  const int64_t blocks = parts_of(d_out_, kBlockEdge);
  tiles_ = at::zeros({blocks * 2 * parts_of(d_in_, kTileDepth) * kTileCodes}, rows.options());
  const auto* from = rows.const_data_ptr<int8_t>();
  auto* to = tiles_.mutable_data_ptr<int8_t>();
  each_four(d_out_, d_in_,
            [&](int64_t in_rows, int64_t in_tiles, int64_t count) { copy_four(from + in_rows, to + in_tiles, count); });
}

Tensor Int8Weight::codes() const {
  Tensor rows = at::empty({d_out_, d_in_}, tiles_.options());
  const auto* from = tiles_.const_data_ptr<int8_t>();
  auto* to = rows.mutable_data_ptr<int8_t>();
  each_four(d_out_, d_in_,
            [&](int64_t in_rows, int64_t in_tiles, int64_t count) { copy_four(from + in_tiles, to + in_rows, count); });
  return rows;
}

Int8Weight Int8Weight::scaled(const Tensor& gain) const {
  Int8Weight result = *this;
  result.scales_ = scales_ * gain.to(at::kFloat);
  return result;
}

int64_t Int8Weight::nbytes() const {
  return static_cast<int64_t>(tiles_.nbytes() + scales_.nbytes());
}

}  // namespace deltaw::ops

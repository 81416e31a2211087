#include "ops/int8/rows.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "ops/int8/blocks.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

constexpr float kSmallestMagnitude = 1e-30F;  // keeps its reciprocal finite

DELTAW_VECTORISED
void multiply_codes_input(const float* __restrict x, const float* __restrict factors, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = x[i] * factors[i];
}

// By their bits, of which those of infinity and NaN are above all others.
DELTAW_VECTORISED
float largest_magnitude_of(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  return std::bit_cast<float>(largest);
}

// 64 codes, zeros behind the first n; returns their sum.
DELTAW_VECTORISED
int32_t write_codes(const float* __restrict x, int64_t n, float inverse, int8_t* __restrict to, int64_t stride) {
  constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23: adding it leaves a whole number in the low bits
  int32_t sum = 0;
  const auto write = [&](int64_t i, int64_t count) DELTAW_INLINE {
    int8_t* tile = to + i / kTileDepth * stride;
    for (int64_t j = 0; j < count; ++j) {
      tile[j] = static_cast<int8_t>(std::bit_cast<uint32_t>(x[i + j] * inverse + kRounder));
      sum += tile[j];
    }
    for (int64_t j = count; j < kTileDepth; ++j) tile[j] = 0;
  };
  int64_t i = 0;
  for (; i + kTileDepth <= n; i += kTileDepth) write(i, kTileDepth);
  if (i < n) write(i, n - i);
  return sum;
}

template <class Scalar>
void quantise(const Tensor& x, const float* factors, int8_t* codes, float* scales, int32_t* sums) {
  const int64_t width = x.size(1), row_of_tiles = parts_of(width, kTileDepth) * kTileCodes;
  const Rows<Scalar> rows(x);
  RowTasks(x.size(0), width).run([&](int64_t, int64_t begin, int64_t end) {
    std::vector<float> buffer(static_cast<size_t>(width));
    for (int64_t i = begin; i < end; ++i) {
      const float* row = rows.part(i, 0, width, buffer.data());
      if (factors) {
        multiply_codes_input(row, factors, buffer.data(), width);
        row = buffer.data();
      }
      const float largest = largest_magnitude_of(row, width);
      const bool finite = largest <= std::numeric_limits<float>::max();
      const float inverse = 127 / std::max(largest, kSmallestMagnitude);
      scales[i] = finite ? std::max(largest, kSmallestMagnitude) / 127 : std::numeric_limits<float>::quiet_NaN();
      int8_t* to = codes + i / kTileEdge * row_of_tiles + i % kTileEdge * kTileDepth;
      sums[i] = write_codes(row, width, finite ? inverse : 0, to, kTileCodes);
    }
  });
}

}  // namespace

Int8Rows::Int8Rows(const Tensor& x, const Tensor& factors) : rows_(x.size(0)), width_(x.size(1)) {
  const at::NoGradGuard no_grad;
  const int64_t padded = parts_of(rows_, kBlockEdge) * kBlockEdge;
  const int64_t row_of_tiles = parts_of(width_, kTileDepth) * kTileCodes;
  codes_ = at::empty({padded / kTileEdge * row_of_tiles}, x.options().dtype(at::kChar));
  scales_ = at::zeros({padded}, x.options().dtype(at::kFloat));
  sums_ = at::zeros({padded}, x.options().dtype(at::kInt));
  auto* codes = codes_.mutable_data_ptr<int8_t>();
  for (int64_t i = rows_; i < padded; ++i) {
    for (int64_t k = 0; k < row_of_tiles; k += kTileCodes) {
      std::fill_n(codes + i / kTileEdge * row_of_tiles + k + i % kTileEdge * kTileDepth, kTileDepth, int8_t{0});
    }
  }
  if (rows_ == 0) return;
  const Tensor numbers = as_rows(has_kernels(x) ? x : x.to(at::kFloat));
  const Tensor own = factors.defined() ? factors.to(at::kFloat).contiguous() : factors;
  const float* by = own.defined() ? own.const_data_ptr<float>() : nullptr;
  auto* scales = scales_.mutable_data_ptr<float>();
  auto* sums = sums_.mutable_data_ptr<int32_t>();
  if (numbers.scalar_type() == at::kFloat) {
    quantise<float>(numbers, by, codes, scales, sums);
  } else {
    quantise<at::BFloat16>(numbers, by, codes, scales, sums);
  }
}

}  // namespace deltaw::ops

#include "ops/tiles.h"

#include <algorithm>

#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

constexpr int kTileRows = 8;

using Vector = float __attribute__((vector_size(64), aligned(4)));

// c += a b over one tile; b and c have kTileColumns columns.
template <int kRows>
DELTAW_INLINE inline void tile(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t depth) {
  Vector sum[kRows][2];
  for (int i = 0; i < kRows; ++i) {
    sum[i][0] = *reinterpret_cast<const Vector*>(c + i * c_row);
    sum[i][1] = *reinterpret_cast<const Vector*>(c + i * c_row + kTileColumns / 2);
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vector low = *reinterpret_cast<const Vector*>(b + k * b_row);
    const Vector high = *reinterpret_cast<const Vector*>(b + k * b_row + kTileColumns / 2);
    for (int i = 0; i < kRows; ++i) {
      const float factor = a.data[i * a.row + k * a.column];
      sum[i][0] += factor * low;
      sum[i][1] += factor * high;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    *reinterpret_cast<Vector*>(c + i * c_row) = sum[i][0];
    *reinterpret_cast<Vector*>(c + i * c_row + kTileColumns / 2) = sum[i][1];
  }
}

// Above this the general product keeps up.
constexpr int64_t kThin = 64;

bool suits(const at::Tensor& thin, const at::Tensor& wide) {
  return wide.is_cpu() && wide.scalar_type() == at::kFloat && thin.scalar_type() == at::kFloat &&
         thin.size(1) <= kThin && wide.size(1) % kTileColumns == 0 && thin.stride(1) == 1 && wide.stride(1) == 1 &&
         wide.size(0) > 0;
}

}  // namespace

DELTAW_VECTORISED
void add_product(Left a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t columns,
                 int64_t depth) {
  for (int64_t j = 0; j < columns; j += kTileColumns) {
    int64_t i = 0;
    for (; i + kTileRows <= rows; i += kTileRows) {
      tile<kTileRows>({a.data + i * a.row, a.row, a.column}, b + j, b_row, c + i * c_row + j, c_row, depth);
    }
    for (; i < rows; ++i) {
      tile<1>({a.data + i * a.row, a.row, a.column}, b + j, b_row, c + i * c_row + j, c_row, depth);
    }
  }
}

at::Tensor thin_product(const at::Tensor& thin, const at::Tensor& wide) {
  if (!suits(thin, wide)) return at::mm(thin.t(), wide);
  const int64_t tokens = wide.size(0), k = thin.size(1), n = wide.size(1);
  // Runs of tokens that stay in a core's cache, each with a sum of its own.
  const int64_t run = std::max<int64_t>(512, (tokens + 31) / 32), runs = (tokens + run - 1) / run;
  const at::Tensor sums = at::zeros({runs, k, n}, wide.options());
  const float *a = thin.const_data_ptr<float>(), *b = wide.const_data_ptr<float>();
  const int64_t a_row = thin.stride(0), b_row = wide.stride(0);
  float* c = sums.data_ptr<float>();
  at::parallel_for(0, runs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * run;
      add_product({a + first * a_row, 1, a_row}, b + first * b_row, b_row, c + i * k * n, n, k, n,
                  std::min(run, tokens - first));
    }
  });
  return runs == 1 ? sums[0] : sums.sum(0);
}

}  // namespace deltaw::ops

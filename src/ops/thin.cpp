#include "ops/thin.h"

#include <algorithm>

#include "ops/tiles.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

// A tile of the product of rows with rows.
constexpr int64_t kEdge = 4;
// Rows of a wide matrix that a core works on at a time. Each row is a stream from memory, of which a core keeps few
// going where rows are long.
int64_t rows_of_block(int64_t n) {
  return n > 512 ? 8 : 16;
}

bool suits(const Tensor& wide, int64_t k) {
  return wide.is_cpu() && wide.scalar_type() == at::kFloat && k > 0 && k <= kThin && wide.size(0) >= kEdge &&
         wide.size(1) % kTileColumns == 0 && wide.stride(1) == 1;
}

bool in_rows(const Tensor& x) {
  return x.scalar_type() == at::kFloat && x.stride(1) == 1;
}

struct Matrix {
  const float* data;
  int64_t stride;
  explicit Matrix(const Tensor& rows) : data(rows.const_data_ptr<float>()), stride(rows.stride(0)) {}
  const float* row(int64_t i) const { return data + i * stride; }
};

// The sixteen sums of the elements of sixteen vectors.
DELTAW_INLINE inline void sum_each(const Vector (&v)[kEdge][kEdge], Vector& sums) {
#define DELTAW_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define DELTAW_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
  const auto pair = [](const Vector& a, const Vector& b, Vector& to) DELTAW_INLINE {
    to = __builtin_shufflevector(a, b, DELTAW_EVEN) + __builtin_shufflevector(a, b, DELTAW_ODD);
  };
#undef DELTAW_EVEN
#undef DELTAW_ODD
  Vector eights[8], fours[4], twos[2];
  for (int i = 0; i < 8; ++i) pair(v[i / 2][i % 2 * 2], v[i / 2][i % 2 * 2 + 1], eights[i]);
  for (int i = 0; i < 4; ++i) pair(eights[2 * i], eights[2 * i + 1], fours[i]);
  for (int i = 0; i < 2; ++i) pair(fours[2 * i], fours[2 * i + 1], twos[i]);
  pair(twos[0], twos[1], sums);
}

// thin [rows, k] <- wide [rows, n] factor^T, where the factor has rows up to a multiple of kEdge.
DELTAW_VECTORISED
void multiply_rows(const float* wide, int64_t wide_row, const float* factor, int64_t n, float* thin, int64_t k,
                   int64_t rows) {
  for (int64_t i = 0; i < rows; i += kEdge) {
    const float* a[kEdge];  // a row behind the last is the last again
    for (int64_t r = 0; r < kEdge; ++r) a[r] = wide + std::min(i + r, rows - 1) * wide_row;
    for (int64_t j = 0; j < k; j += kEdge) {
      Vector products[kEdge][kEdge] = {};
      for (int64_t p = 0; p < n; p += kVectorLanes) {
        Vector b[kEdge];
        for (int64_t c = 0; c < kEdge; ++c) b[c] = *reinterpret_cast<const Vector*>(factor + (j + c) * n + p);
        for (int64_t r = 0; r < kEdge; ++r) {
          const Vector own = *reinterpret_cast<const Vector*>(a[r] + p);
          for (int64_t c = 0; c < kEdge; ++c) products[r][c] += own * b[c];
        }
      }
      Vector sums;
      sum_each(products, sums);
      for (int64_t r = 0; r < std::min(kEdge, rows - i); ++r) {
        for (int64_t c = 0; c < std::min(kEdge, k - j); ++c) thin[(i + r) * k + j + c] = sums[r * kEdge + c];
      }
    }
  }
}

// Rows of zeros make up the last edge.
Tensor in_edges(const Tensor& factor) {
  const int64_t k = factor.size(0), more = (k + kEdge - 1) / kEdge * kEdge - k;
  const Tensor rows = factor.contiguous();
  return more == 0 ? rows : at::cat({rows, at::zeros({more, rows.size(1)}, rows.options())});
}

// work(run, begin, end) for blocks of rows, those of one run in turn. How they are cut follows from the sizes alone.
template <class Work>
void in_blocks(int64_t runs, int64_t rows_per_run, const Tensor& wide, const Work& work) {
  const int64_t block = rows_of_block(wide.size(1));
  at::parallel_for(0, runs, 1, [&](int64_t first, int64_t last) {
    for (int64_t run = first; run < last; ++run) {
      const int64_t end = std::min((run + 1) * rows_per_run, wide.size(0));
      for (int64_t i = run * rows_per_run; i < end; i += block) work(run, i, std::min(i + block, end));
    }
  });
}

template <class Work>
void in_blocks(const Tensor& wide, const Work& work) {
  const RowTasks tasks(wide.size(0), wide.size(1));
  in_blocks(tasks.count, tasks.rows_per_task, wide, [&](int64_t, int64_t begin, int64_t end) { work(begin, end); });
}

// thin^T wide, by runs of rows that have a sum each; first(begin, end) before a block's rows are read.
template <class First>
Tensor summed_factor(const Matrix& thin, int64_t k, const Tensor& wide, const First& first) {
  const int64_t tokens = wide.size(0), n = wide.size(1);
  const int64_t rows = std::max<int64_t>(512, (tokens + 31) / 32), runs = (tokens + rows - 1) / rows;
  const Matrix w(wide);
  const Tensor sums = at::zeros({runs, k, n}, wide.options());
  float* c = sums.data_ptr<float>();
  in_blocks(runs, rows, wide, [&](int64_t run, int64_t begin, int64_t end) {
    first(begin, end);
    add_product({thin.row(begin), 1, thin.stride}, {w.row(begin), w.stride}, c + run * k * n, n, k, n, end - begin);
  });
  return runs == 1 ? sums[0] : sums.sum(0);
}

}  // namespace

Tensor thin_of(const Tensor& wide, const Tensor& factor) {
  const int64_t k = factor.size(0), n = wide.size(1);
  if (!suits(wide, k)) return at::mm(wide, factor.t());
  const Tensor rows = in_edges(factor), thin = at::empty({wide.size(0), k}, wide.options());
  const Matrix w(wide), f(rows);
  float* to = thin.data_ptr<float>();
  in_blocks(wide, [&](int64_t begin, int64_t end) {
    multiply_rows(w.row(begin), w.stride, f.data, n, to + begin * k, k, end - begin);
  });
  return thin;
}

Tensor factor_of(const Tensor& thin, const Tensor& wide) {
  if (!suits(wide, thin.size(1)) || !in_rows(thin)) return at::mm(thin.t(), wide);
  return summed_factor(Matrix(thin), thin.size(1), wide, [](int64_t, int64_t) {});
}

ThinAndFactor thin_and_factor_of(const Tensor& wide, const Tensor& factor, const Tensor& thin) {
  const int64_t k = factor.size(0), n = wide.size(1);
  if (!suits(wide, k) || thin.size(1) != k || !in_rows(thin)) {
    return {at::mm(wide, factor.t()), at::mm(thin.t(), wide)};
  }
  const Tensor rows = in_edges(factor), result = at::empty({wide.size(0), k}, wide.options());
  const Matrix w(wide), f(rows);
  float* to = result.data_ptr<float>();
  const Tensor sum = summed_factor(Matrix(thin), k, wide, [&](int64_t begin, int64_t end) {
    multiply_rows(w.row(begin), w.stride, f.data, n, to + begin * k, k, end - begin);
  });
  return {result, sum};
}

Tensor wide_of(const Tensor& thin, const Tensor& factor, const Tensor& bias) {
  const int64_t k = thin.size(1), n = factor.size(1);
  const Tensor wide = at::empty({thin.size(0), n}, thin.options());
  if (!suits(wide, k) || !in_rows(thin)) return bias.defined() ? at::addmm(bias, thin, factor) : at::mm(thin, factor);
  const Tensor rows = factor.contiguous(), start = bias.defined() ? bias.contiguous() : at::zeros({n}, thin.options());
  const Matrix t(thin), f(rows);
  const float* from = start.const_data_ptr<float>();
  float* to = wide.data_ptr<float>();
  in_blocks(wide, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(from, n, to + i * n);
    add_product({t.row(begin), t.stride, 1}, {f.data, n}, to + begin * n, n, end - begin, n, k);
  });
  return wide;
}

void add_wide(Tensor& wide, const Tensor& thin, const Tensor& factor) {
  const int64_t k = thin.size(1), n = wide.size(1), stride = wide.stride(0);
  if (!suits(wide, k) || !in_rows(thin)) {
    wide.addmm_(thin, factor);
    return;
  }
  const Tensor rows = factor.contiguous();
  const Matrix t(thin), f(rows);
  float* to = wide.data_ptr<float>();
  in_blocks(wide, [&](int64_t begin, int64_t end) {
    add_product({t.row(begin), t.stride, 1}, {f.data, n}, to + begin * stride, stride, end - begin, n, k);
  });
}

}  // namespace deltaw::ops

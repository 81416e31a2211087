#include "ops/row_sums.h"

#include <memory>

#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

DELTAW_VECTORISED
void add_row(const float* __restrict x, float* __restrict sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
}

DELTAW_VECTORISED
void add_products(const float* __restrict x, const float* __restrict y, float* __restrict sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i] * y[i];
}

template <class Scalar>
Tensor summed(const Tensor& x, const Tensor& y) {
  const int64_t n = x.size(1);
  const RowTasks tasks(x.size(0), n);
  const Rows<Scalar> left(x), right(y);
  const Tensor sums = at::zeros({tasks.count, n}, x.options().dtype(at::kFloat));
  float* const first = sums.data_ptr<float>();
  tasks.run([&](int64_t task, int64_t begin, int64_t end) {
    const auto buffers = std::make_unique_for_overwrite<float[]>(std::is_same_v<Scalar, float> ? 0 : 2 * n);
    float* const sum = first + task * n;
    for (int64_t i = begin; i < end; ++i) {
      const float* own = left.part(i, 0, n, buffers.get());
      const float* other = right.part(i, 0, n, buffers.get() + n);
      other ? add_products(own, other, sum, n) : add_row(own, sum, n);
    }
  });
  return tasks.count == 1 ? sums[0] : sums.sum(0);
}

Tensor sum(const Tensor& x, const Tensor& y) {
  if (!has_kernels(x)) {
    const at::ScalarType wide = at::promote_types(x.scalar_type(), at::kFloat);
    return (y.defined() ? x * y : x).sum({0}, false, wide);
  }
  const Tensor rows = as_rows(x), others = y.defined() ? as_rows(y) : y;
  return x.scalar_type() == at::kFloat ? summed<float>(rows, others) : summed<at::BFloat16>(rows, others);
}

}  // namespace

Tensor sum_of_rows(const Tensor& x) {
  return sum(x, Tensor());
}

Tensor sum_of_products(const Tensor& x, const Tensor& y) {
  return sum(x, y);
}

}  // namespace deltaw::ops

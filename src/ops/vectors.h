// Loops over rows of float, compiled for several vector units: the widest that the processor has is chosen when the
// program loads. A kernel is written once: rows of bfloat16 are widened into a small buffer and rounded on their way
// out.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "core/vectorised.h"

/// Before a loop none of whose iterations reads what another writes; more pointers than a few hide that.
#if defined(__GNUC__) && !defined(__clang__)
#define DELTAW_INDEPENDENT _Pragma("GCC ivdep")
#else
#define DELTAW_INDEPENDENT
#endif
/// Before a function that has_bf16_units() guards.
#if defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && defined(__x86_64__)
#define DELTAW_BF16_UNITS __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"), optimize("O3")))
#endif

namespace deltaw::ops {

/// Elements that a task works on at least: fewer are not worth another thread.
constexpr int64_t kTaskElements = 32768;

/// Whether the processor multiplies bfloat16 numbers (AVX512_BF16).
bool has_bf16_units();

/// What the kernels take; the rest is left to plain ATen.
inline bool has_kernels(const at::Tensor& x) {
  return x.is_cpu() && x.numel() > 0 && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

/// x [..., width] as [rows, width], each row without gaps; copied only where it must be.
inline at::Tensor as_rows(const at::Tensor& x) {
  const at::Tensor rows = x.reshape({-1, x.dim() == 0 ? 1 : x.size(-1)});
  return rows.stride(1) == 1 || rows.size(1) == 1 ? rows : rows.contiguous();
}

/// Room for a result of x's shape, without gaps.
inline at::Tensor unfilled(const at::Tensor& x) {
  return at::empty(x.sizes(), x.options().memory_format(at::MemoryFormat::Contiguous));
}

/// Rounded to bfloat16, to nearest even; NaN stays NaN.
DELTAW_INLINE inline float rounded(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const float nearest = std::bit_cast<float>((bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u);
  return value != value ? value : nearest;
}

/// Rounded to the type that the rows have.
template <bool kBFloat16>
DELTAW_INLINE inline float in_type(float value) {
  return kBFloat16 ? rounded(value) : value;
}

/// e^x for -87 <= x <= 0, to two units in the last place.
DELTAW_INLINE inline float exp_negative(float x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float shifted = x * 1.44269504f + kRounder, n = shifted - kRounder;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts
  float p = 0.00138146f;
  p = p * r + 0.00836872f;
  p = p * r + 0.04166839f;
  p = p * r + 0.16666521f;
  p = p * r + 0.49999993f;
  p = p * r * r + r + 1.0f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23));  // p * 2^n
}

/// The sum of term(0), ..., term(n - 1), in an order that follows from n alone.
template <class Term>
DELTAW_INLINE inline float total(int64_t n, const Term& term) {
  constexpr int64_t kLanes = 32;
  float lanes[kLanes] = {};
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (int64_t i = whole; i < n; ++i) lanes[i - whole] += term(i);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

/// work(task, begin, end) for runs of rows, several at a time. How the rows are cut follows from the sizes alone.
struct RowTasks {
  int64_t rows, rows_per_task, count;

  RowTasks(int64_t rows_, int64_t width)
      : rows(rows_),
        rows_per_task(std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, width))),
        count((rows + rows_per_task - 1) / rows_per_task) {}

  template <class Work>
  void run(const Work& work) const {
    at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        work(task, task * rows_per_task, std::min(rows, (task + 1) * rows_per_task));
      }
    });
  }
};

/// Exact.
void widen(const at::BFloat16* from, float* to, int64_t n);
/// To nearest even; NaN stays NaN. What is below 2^-126 may become zero.
void narrow(const float* from, at::BFloat16* to, int64_t n);

/// A row to read: itself, or in `buffer`.
inline const float* readable(const float* row, float*, int64_t) {
  return row;
}
inline const float* readable(const at::BFloat16* row, float* buffer, int64_t n) {
  widen(row, buffer, n);
  return buffer;
}

/// Rows [rows, width] to read; null for those of an undefined tensor.
template <class Scalar>
struct Rows {
  const Scalar* first = nullptr;
  int64_t stride = 0;

  explicit Rows(const at::Tensor& rows) {
    if (!rows.defined()) return;
    first = rows.const_data_ptr<Scalar>();
    stride = rows.stride(0);
  }
  /// n numbers of a row, from `begin` on.
  const float* part(int64_t row, int64_t begin, int64_t n, float* buffer) const {
    return first ? readable(first + row * stride + begin, buffer, n) : nullptr;
  }
};

/// Where to write a row: itself, or `buffer`, which store() rounds into the row.
inline float* writable(float* row, float*) {
  return row;
}
inline float* writable(at::BFloat16*, float* buffer) {
  return buffer;
}
inline void store(const float*, float*, int64_t) {}
inline void store(const float* from, at::BFloat16* row, int64_t n) {
  narrow(from, row, n);
}

}  // namespace deltaw::ops

// Products with a frozen matrix of few entries, all of one magnitude: RandLoRA's very sparse bases. They add and
// subtract rows and skip what is zero.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace deltaw::ops {

/// A matrix of entries 0, c and -c by the places of the latter two.
class SignMatrix {
 public:
  /// `frozen` float32 on a CPU, so; null for any other matrix, and where the dense product is as fast. What is known of
  /// a matrix is kept for as long as its memory lives, which must not be written meanwhile.
  static std::shared_ptr<const SignMatrix> find(const at::Tensor& frozen);

  /// This matrix [m, n] times `dense` [n, .], and its transpose times `dense` [m, .]: at::mm but for rounding.
  at::Tensor times(const at::Tensor& dense) const { return multiplied(rows_, dense); }
  at::Tensor transpose_times(const at::Tensor& dense) const { return multiplied(columns_, dense); }

 private:
  // The columns of each row's positive entries, then of its negative ones.
  struct Signs {
    std::vector<int64_t> begin;  // of row i's positive entries at 2 i, of its negative ones at 2 i + 1; the end
    std::vector<int32_t> columns;
    int64_t rows() const { return static_cast<int64_t>(begin.size()) / 2; }
  };
  SignMatrix(const at::Tensor& matrix, float magnitude);
  static Signs signs_of(const at::Tensor& matrix);
  at::Tensor multiplied(const Signs& signs, const at::Tensor& dense) const;
  static void multiply(const Signs& signs, float magnitude, int64_t first, int64_t last, const float* from, float* to,
                       int64_t n);

  Signs rows_, columns_;  // of the matrix and of its transpose
  float magnitude_;
};

}  // namespace deltaw::ops

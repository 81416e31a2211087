// A term of attention's scores that tells distances (ops/attention/disentangled.h), in one thread, and its gradients.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "core/aligned.h"
#include "ops/operand.h"

namespace deltaw::ops {

/// Each row's product with the vector of its distance to each column: of row i and column j that is vector
/// j - i + rows - 1, so that what a few rows need is a narrow product, in which every row begins one column earlier
/// than the one before.
template <class Scalar, class Operand>
class DistanceTerm {
 public:
  /// `vectors` [distances, heads, width]; `rows`: of all places; `columns`: the most of a part.
  DistanceTerm(const at::Tensor& vectors, int64_t rows, int64_t columns, bool backward)
      : vectors_(vectors),
        rows_(rows),
        distances_(vectors.size(0)),
        width_(vectors.size(2)),
        lanes_(padded(width_)),
        band_row_(padded(columns + kRows + 1)),
        table_(distances_ + kTileColumns, width_, {.along_rows = backward, .turned = true}),
        shifted_(backward ? kRows : 0, band_row_, {.along_rows = true}),
        band_(static_cast<size_t>(kRows * band_row_)),
        gradient_(backward ? static_cast<size_t>((distances_ + kTileColumns) * lanes_) : 0) {}

  /// Those of a head act from now on.
  void choose(int64_t head) {
    if (head == head_) return;
    head_ = head;
    table_.read(vectors_.data_ptr<Scalar>() + head * vectors_.stride(1), vectors_.stride(0), distances_);
  }

  /// Some rows and columns, by their places.
  struct Part {
    int64_t first_row, rows, first_column, columns;
  };

  /// add(row, products [columns]) for each row of the part, which begins with that of x.
  template <class Add>
  void products(const Operand& x, const Part& part, const Add& add) {
    for_each_band(part, [&](const Band& b) {
      add_product(below(x.left(), b.begin), beside(table_.turned_right(), b.first), band_.data(), band_row_, b.rows,
                  padded(b.count), width_, Into::fresh);
      for (int64_t i = 0; i < b.rows; ++i) add(b.begin + i, band_.data() + i * band_row_ + b.shift(i));
    });
  }

  /// take(row, to [columns]) gives the products' gradients. What follows for x is added to dx, for the vectors to
  /// gradient(). dx has rows of width, padded.
  template <class Take>
  void backward(const Operand& x, const Part& part, const Take& take, float* dx) {
    for_each_band(part, [&](const Band& b) {
      std::fill_n(band_.begin(), b.rows * band_row_, 0.0f);
      for (int64_t i = 0; i < b.rows; ++i) take(b.begin + i, band_.data() + i * band_row_ + b.shift(i));
      for (int64_t i = 0; i < b.rows; ++i) shifted_.take_row(band_.data() + i * band_row_, i, b.count);
      shifted_.taken(band_.data(), band_row_, b.rows, b.count);
      add_product(shifted_.left(), below(table_.right(), b.first), dx + b.begin * lanes_, lanes_, b.rows, lanes_,
                  b.count);
      add_product(shifted_.turned_left(), below(x.right(), b.begin), gradient_.data() + b.first * lanes_, lanes_,
                  b.count, lanes_, b.rows);
    });
  }

  void clear_gradient() { std::fill(gradient_.begin(), gradient_.end(), 0.0f); }
  /// [distances], rows of width, padded.
  const float* gradient() const { return gradient_.data(); }

 private:
  static constexpr int64_t kRows = 16;

  // A few rows of a part from `begin` on, with the vectors that they need, from `first` on, both numbers even: `count`
  // of them, of which row i begins at shift(i).
  struct Band {
    int64_t begin, rows, first, count, odd;
    int64_t shift(int64_t i) const { return rows - 1 - i + odd; }
  };

  template <class Use>
  void for_each_band(const Part& part, const Use& use) const {
    for (int64_t begin = 0; begin < part.rows; begin += kRows) {
      const int64_t rows = std::min(kRows, part.rows - begin);
      const int64_t first = part.first_column - (part.first_row + begin + rows - 1) + rows_ - 1, odd = first % 2;
      const int64_t count = part.columns + rows - 1 + odd;
      use(Band{begin, rows, first - odd, count + count % 2, odd});
    }
  }

  const at::Tensor& vectors_;
  const int64_t rows_, distances_, width_, lanes_, band_row_;
  int64_t head_ = -1;
  Operand table_, shifted_;
  AlignedVector<float> band_, gradient_;
};

}  // namespace deltaw::ops

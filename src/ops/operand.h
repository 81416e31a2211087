// A small matrix [rows, width] as the products of ops/tiles.h read it: left or right, as it is or turned.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "ops/tiles.h"

namespace deltaw::ops {

/// n as a whole number of tiles.
constexpr int64_t padded(int64_t n) {
  return (n + kTileColumns - 1) / kTileColumns * kTileColumns;
}

/// What is asked of a matrix beside left(), since it may cost a copy.
struct Forms {
  bool along_rows = false;  // right() and turned_left(): a product adds up over the rows
  bool turned = false;      // turned_right()
};

/// In float32, whatever is read. Columns behind the width are zero.
class Floats {
 public:
  Floats(int64_t rows, int64_t width, Forms forms);
  Floats(Floats&&) = default;  // no copies: what is read lies in the object's own memory

  /// `count` rows that lie `stride` apart.
  void read(const float* from, int64_t stride, int64_t count);
  void read(const at::BFloat16* from, int64_t stride, int64_t count);
  /// The first `width` columns of a result, which must stay while this is read.
  void take(const float* from, int64_t stride, int64_t count, int64_t width);

  Left<float> left() const { return {data_, row_, 1}; }
  Left<float> turned_left() const { return {data_, 1, row_}; }
  Right<float> right() const { return {data_, row_}; }
  Right<float> turned_right() const { return {turned_.data(), turned_row_}; }

 private:
  float* own_row(int64_t i);
  void turn(int64_t count);

  int64_t rows_, width_, own_stride_, turned_row_;
  std::vector<float> own_;     // none before something is read
  std::vector<float> turned_;  // where asked for
  const float* data_ = nullptr;
  int64_t row_ = 0;
};

/// In bfloat16, by pairs along the depth of the product; results are rounded to it.
class Pairs {
 public:
  Pairs(int64_t rows, int64_t width, Forms forms);

  void read(const at::BFloat16* from, int64_t stride, int64_t count);
  void take(const float* from, int64_t stride, int64_t count, int64_t width);

  Left<Pair> left() const { return {rows_.data(), row_ / 2, 1}; }
  Left<Pair> turned_left() const { return {along_rows_.data(), 1, row_}; }
  Right<Pair> right() const { return {along_rows_.data(), row_}; }
  Right<Pair> turned_right() const { return {turned_.data(), turned_row_}; }

 private:
  at::BFloat16* row(int64_t i) { return reinterpret_cast<at::BFloat16*>(rows_.data()) + i * row_; }
  void form(int64_t count, int64_t width);

  int64_t width_, row_, turned_row_;  // in single numbers, in pairs
  std::vector<Pair> rows_;            // pairs along the width
  std::vector<Pair> along_rows_;      // of rows 2 i and 2 i + 1, where asked for
  std::vector<Pair> turned_;          // rows_, turned, where asked for
};

}  // namespace deltaw::ops

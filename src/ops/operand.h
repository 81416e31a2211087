// A small matrix [rows, width] as the products of ops/tiles.h read it: left or right, as it is or turned.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "core/aligned.h"
#include "ops/tiles.h"

namespace deltaw::ops {

/// n as a whole number of tiles.
constexpr int64_t padded(int64_t n) {
  return (n + kTileColumns - 1) / kTileColumns * kTileColumns;
}

/// How far apart rows of n numbers of four bytes lie: so that those of a tile do not meet in a few sets of the first
/// cache.
constexpr int64_t row_stride(int64_t n) {
  const int64_t whole = padded(n);
  return whole % 256 == 0 ? whole + kVectorLanes : whole;
}

/// n as a whole number of vectors.
constexpr int64_t in_vectors(int64_t n) {
  return (n + kVectorLanes - 1) / kVectorLanes * kVectorLanes;
}

/// What is asked of a matrix, since it may cost a copy.
struct Forms {
  bool left = true;         // left()
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
  /// The first `width` columns of a result, which must stay while this is read: each row, and then all together.
  void take_row(const float* from, int64_t i, int64_t width);
  void taken(const float* from, int64_t stride, int64_t count, int64_t width);

  /// As many rows of the left matrix, and as great a depth, as products of `n` are fastest with. Behind those that were
  /// read there are zeros.
  static int64_t whole_rows(int64_t n) { return n; }
  static int64_t whole_depth(int64_t n) { return n; }

  Left<float> left() const { return {data_, row_, 1}; }
  Left<float> turned_left() const { return {data_, 1, row_}; }
  Right<float> right() const { return {data_, row_}; }
  Right<float> turned_right() const { return {turned_.data(), turned_row_}; }

 private:
  float* own_row(int64_t i);
  void turn(int64_t count);

  int64_t rows_, width_, own_stride_, turned_row_;
  AlignedVector<float> own_;     // none before something is read
  AlignedVector<float> turned_;  // where asked for
  const float* data_ = nullptr;
  int64_t row_ = 0;
};

/// In bfloat16, by pairs along the depth of the product; results are rounded to it.
class Pairs {
 public:
  Pairs(int64_t rows, int64_t width, Forms forms);

  void read(const at::BFloat16* from, int64_t stride, int64_t count);
  void take_row(const float* from, int64_t i, int64_t width);
  void taken(const float* from, int64_t stride, int64_t count, int64_t width);

  static int64_t whole_rows(int64_t n);
  static int64_t whole_depth(int64_t n);

  Left<Pair> left() const { return {rows_.data(), row_, 1}; }
  Left<Pair> turned_left() const { return {along_rows_.data(), 1, along_row_}; }
  Right<Pair> right() const { return {along_rows_.data(), along_row_}; }
  Right<Pair> turned_right() const { return {turned_.data(), turned_row_}; }

 private:
  at::BFloat16* row(int64_t i) {
    return reinterpret_cast<at::BFloat16*>(rows_.data() + (keeps_rows_ ? i : i % 2) * row_);
  }
  void joined(int64_t i, int64_t width);
  void end(int64_t count, int64_t width);

  bool keeps_rows_;
  int64_t width_;
  int64_t row_, along_row_, turned_row_;  // in pairs
  AlignedVector<Pair> rows_;              // pairs along the width; of two rows where left() is not asked for
  AlignedVector<Pair> along_rows_;        // of rows 2 i and 2 i + 1, where asked for
  AlignedVector<Pair> turned_;            // rows_, turned, where asked for
};

}  // namespace deltaw::ops

#include "ops/operand.h"

#include <algorithm>
#include <cstring>

#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

template <class Number>
void transpose(const Number* from, int64_t rows, int64_t columns, int64_t from_row, Number* to, int64_t to_row) {
  constexpr int64_t kEdge = 16;
  for (int64_t i = 0; i < rows; i += kEdge) {
    for (int64_t j = 0; j < columns; j += kEdge) {
      for (int64_t ii = i; ii < std::min(i + kEdge, rows); ++ii) {
        for (int64_t jj = j; jj < std::min(j + kEdge, columns); ++jj) to[jj * to_row + ii] = from[ii * from_row + jj];
      }
    }
  }
}

// Pairs of neighbours in two rows.
DELTAW_VECTORISED
void interleave(const at::BFloat16* __restrict first, const at::BFloat16* __restrict second, Pair* __restrict to,
                int64_t n) {
  for (int64_t j = 0; j < n; ++j) to[j] = first[j].x | static_cast<Pair>(second[j].x) << 16;
}

DELTAW_VECTORISED
void pair_with_zero(const at::BFloat16* __restrict first, Pair* __restrict to, int64_t n) {
  for (int64_t j = 0; j < n; ++j) to[j] = first[j].x;
}

size_t room(int64_t rows, int64_t columns) {
  return static_cast<size_t>(rows * columns);
}

}  // namespace

Floats::Floats(int64_t rows, int64_t width, Forms forms)
    : rows_(rows),
      width_(width),
      own_stride_(padded(width)),
      turned_row_(padded(rows)),
      turned_(forms.turned ? room(width, turned_row_) : 0) {}

float* Floats::own_row(int64_t i) {
  if (own_.empty()) own_.resize(room(rows_, own_stride_));
  return own_.data() + i * own_stride_;
}

void Floats::read(const float* from, int64_t stride, int64_t count) {
  const auto bytes = static_cast<size_t>(width_) * sizeof(float);
  for (int64_t i = 0; i < count; ++i) std::memcpy(own_row(i), from + i * stride, bytes);
  turn(count);
}

void Floats::read(const at::BFloat16* from, int64_t stride, int64_t count) {
  for (int64_t i = 0; i < count; ++i) widen(from + i * stride, own_row(i), width_);
  turn(count);
}

void Floats::turn(int64_t count) {
  data_ = own_.data();
  row_ = own_stride_;
  if (!turned_.empty()) transpose(data_, count, width_, row_, turned_.data(), turned_row_);
}

void Floats::take(const float* from, int64_t stride, int64_t, int64_t) {
  data_ = from;
  row_ = stride;
}

Pairs::Pairs(int64_t rows, int64_t width, Forms forms)
    : width_(width),
      row_(padded(width)),
      turned_row_(padded(rows)),
      rows_(room(rows, row_ / 2)),
      along_rows_(forms.along_rows ? room((rows + 1) / 2, row_) : 0),
      turned_(forms.turned ? room(row_ / 2, turned_row_) : 0) {}

void Pairs::read(const at::BFloat16* from, int64_t stride, int64_t count) {
  const auto bytes = static_cast<size_t>(width_) * sizeof(at::BFloat16);
  for (int64_t i = 0; i < count; ++i) std::memcpy(row(i), from + i * stride, bytes);
  form(count, width_);
}

void Pairs::take(const float* from, int64_t stride, int64_t count, int64_t width) {
  for (int64_t i = 0; i < count; ++i) narrow(from + i * stride, row(i), width);
  form(count, width);
}

void Pairs::form(int64_t count, int64_t width) {
  if (!along_rows_.empty()) {
    for (int64_t i = 0; i + 1 < count; i += 2) interleave(row(i), row(i + 1), along_rows_.data() + i / 2 * row_, width);
    if (count % 2 == 1) pair_with_zero(row(count - 1), along_rows_.data() + count / 2 * row_, width);
  }
  if (!turned_.empty()) transpose(rows_.data(), count, (width + 1) / 2, row_ / 2, turned_.data(), turned_row_);
}

}  // namespace deltaw::ops

#include "ops/operand.h"

#include <algorithm>
#include <cstring>

#include "ops/matrix_units.h"
#include "ops/turn.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

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
      own_stride_(row_stride(width)),
      turned_row_(row_stride(rows)),
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
  if (!turned_.empty()) ops::turn(data_, row_, count, width_, turned_.data(), turned_row_);
}

void Floats::take_row(const float*, int64_t, int64_t) {}

void Floats::taken(const float* from, int64_t stride, int64_t, int64_t) {
  data_ = from;
  row_ = stride;
}

Pairs::Pairs(int64_t rows, int64_t width, Forms forms)
    : keeps_rows_(forms.left || forms.turned),
      width_(width),
      row_(row_stride(padded(width) / 2)),
      along_row_(row_stride(width)),
      turned_row_(row_stride(rows)),
      rows_(room(keeps_rows_ ? padded(rows) : 2, row_)),
      along_rows_(forms.along_rows ? room(padded(rows) / 2, along_row_) : 0),
      turned_(forms.turned ? room(padded(width) / 2, turned_row_) : 0) {}

int64_t Pairs::whole_rows(int64_t n) {
  return has_matrix_units() ? in_vectors(n) : n;
}

int64_t Pairs::whole_depth(int64_t n) {
  return has_matrix_units() ? padded(n) : n;
}

void Pairs::read(const at::BFloat16* from, int64_t stride, int64_t count) {
  const auto bytes = static_cast<size_t>(width_) * sizeof(at::BFloat16);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(row(i), from + i * stride, bytes);
    joined(i, width_);
  }
  end(count, width_);
}

void Pairs::take_row(const float* from, int64_t i, int64_t width) {
  narrow(from, row(i), width);
  joined(i, width);
}

void Pairs::taken(const float*, int64_t, int64_t count, int64_t width) {
  end(count, width);
}

// Row i is there.
void Pairs::joined(int64_t i, int64_t width) {
  if (i % 2 == 1 && !along_rows_.empty()) {
    interleave(row(i - 1), row(i), along_rows_.data() + i / 2 * along_row_, width);
  }
}

// All rows are.
void Pairs::end(int64_t count, int64_t width) {
  const int64_t whole = padded(count);
  if (!along_rows_.empty()) {
    if (count % 2 == 1) pair_with_zero(row(count - 1), along_rows_.data() + count / 2 * along_row_, width);
    for (int64_t i = (count + 1) / 2; i < whole / 2; ++i)
      std::fill_n(along_rows_.data() + i * along_row_, width, Pair{0});
  }
  if (keeps_rows_) {
    for (int64_t i = count; i < whole; ++i) std::fill_n(row(i), width, at::BFloat16(0));
  }
  if (!turned_.empty()) turn(rows_.data(), row_, whole, padded(width) / 2, turned_.data(), turned_row_);
}

}  // namespace deltaw::ops

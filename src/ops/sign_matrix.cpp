#include "ops/sign_matrix.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <map>
#include <mutex>
#include <tuple>
#include <type_traits>

#include "ops/tiles.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

// From one entry in eight on the dense product keeps up.
constexpr int64_t kShare = 8;
constexpr int64_t kLeastSize = 64;
constexpr int64_t kFirstRows = 4;

// The magnitude of the entries where it is one and they are few, else 0. Of a matrix whose rows have no gaps.
float magnitude_of(const Tensor& rows) {
  float magnitude = 0;
  int64_t entries = 0;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const float* data = rows.const_data_ptr<float>() + i * rows.stride(0);
    for (int64_t j = 0; j < rows.size(1); ++j) {
      if (data[j] == 0) continue;
      const float own = std::abs(data[j]);
      if (magnitude == 0) magnitude = own;
      if (own != magnitude || ++entries * kShare > rows.numel()) return 0;
    }
  }
  return magnitude;
}

// What is known, by the memory that it is about.
struct Known {
  using Key = std::tuple<const float*, int64_t, int64_t, int64_t>;  // address, sizes, from row to row
  struct Entry {
    bool known = false;
    c10::weak_intrusive_ptr<c10::StorageImpl> storage{c10::intrusive_ptr<c10::StorageImpl>()};
    std::shared_ptr<const SignMatrix> signs;  // or none
  };
  std::mutex mutex;
  std::map<Key, Entry> entries;
};

template <int kVectors>
DELTAW_INLINE inline void add_rows(const int32_t* plus, const int32_t* minus, const int32_t* end, float magnitude,
                                   const float* from, int64_t stride, float* to) {
  Vector sums[kVectors] = {};
  for (; plus < minus; ++plus) {
    const float* row = from + *plus * stride;
    for (int v = 0; v < kVectors; ++v) sums[v] += *reinterpret_cast<const Vector*>(row + v * kVectorLanes);
  }
  for (; minus < end; ++minus) {
    const float* row = from + *minus * stride;
    for (int v = 0; v < kVectors; ++v) sums[v] -= *reinterpret_cast<const Vector*>(row + v * kVectorLanes);
  }
  for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Vector*>(to + v * kVectorLanes) = magnitude * sums[v];
}

}  // namespace

std::shared_ptr<const SignMatrix> SignMatrix::find(const Tensor& frozen) {
  if (!frozen.is_cpu() || frozen.scalar_type() != at::kFloat || frozen.size(0) < kLeastSize ||
      frozen.size(1) < kLeastSize || frozen.stride(1) != 1 || magnitude_of(frozen.narrow(0, 0, kFirstRows)) == 0) {
    return nullptr;  // most are told by their first rows
  }
  static Known all;
  const std::lock_guard lock(all.mutex);
  std::erase_if(all.entries, [](const auto& entry) { return entry.second.storage.expired(); });
  Known::Entry& entry = all.entries[{frozen.const_data_ptr<float>(), frozen.size(0), frozen.size(1), frozen.stride(0)}];
  if (entry.known) return entry.signs;
  entry.known = true;
  entry.storage = frozen.storage().getWeakStorageImpl();
  const float magnitude = magnitude_of(frozen);
  if (magnitude != 0) entry.signs.reset(new SignMatrix(frozen, magnitude));
  return entry.signs;
}

SignMatrix::SignMatrix(const Tensor& matrix, float magnitude)
    : rows_(signs_of(matrix)), columns_(signs_of(matrix.t())), magnitude_(magnitude) {}

SignMatrix::Signs SignMatrix::signs_of(const Tensor& matrix) {
  Signs signs;
  const Tensor rows = matrix.contiguous();
  const float* data = rows.const_data_ptr<float>();
  for (int64_t i = 0; i < rows.size(0); ++i) {
    for (const float sign : {1.0f, -1.0f}) {
      signs.begin.push_back(static_cast<int64_t>(signs.columns.size()));
      for (int64_t j = 0; j < rows.size(1); ++j) {
        if (data[i * rows.size(1) + j] * sign > 0) signs.columns.push_back(static_cast<int32_t>(j));
      }
    }
  }
  signs.begin.push_back(static_cast<int64_t>(signs.columns.size()));
  return signs;
}

// Rows [first, last) of signs times `from` [., n], rows without gaps.
DELTAW_VECTORISED
void SignMatrix::multiply(const Signs& signs, float magnitude, int64_t first, int64_t last, const float* from,
                          float* to, int64_t n) {
  constexpr int kVectors = 8;
  const int32_t* columns = signs.columns.data();
  const auto strip = [&](auto vectors, int64_t j) DELTAW_INLINE {
    for (int64_t i = first; i < last; ++i) {
      const int64_t* begin = signs.begin.data() + 2 * i;
      add_rows<decltype(vectors)::value>(columns + begin[0], columns + begin[1], columns + begin[2], magnitude,
                                         from + j, n, to + i * n + j);
    }
  };
  int64_t j = 0;
  for (; j + kVectors * kVectorLanes <= n; j += kVectors * kVectorLanes) {
    strip(std::integral_constant<int, kVectors>(), j);
  }
  for (; j < n; j += kVectorLanes) strip(std::integral_constant<int, 1>(), j);
}

Tensor SignMatrix::multiplied(const Signs& signs, const Tensor& dense) const {
  const int64_t n = dense.size(1), lanes = kVectorLanes, whole = (n + lanes - 1) / lanes * lanes;
  const Tensor rows = (n == whole ? dense : at::constant_pad_nd(dense, {0, whole - n})).contiguous();
  const Tensor result = at::empty({signs.rows(), whole}, dense.options());
  const float* from = rows.const_data_ptr<float>();
  float* to = result.data_ptr<float>();
  at::parallel_for(0, signs.rows(), 16,
                   [&](int64_t first, int64_t last) { multiply(signs, magnitude_, first, last, from, to, whole); });
  return n == whole ? result : result.narrow(1, 0, n);
}

}  // namespace deltaw::ops

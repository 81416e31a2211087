#include "ops/sign_matrix.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ops/tiles.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;

// From one entry in eight on the dense product keeps up.
constexpr int64_t kShare = 8;
constexpr int64_t kLeastNumbers = 64 * 64;

// The columns of each row's positive entries, then of its negative ones.
struct Signs {
  std::vector<int64_t> begin;  // of row i's positive entries at 2 i, of its negative ones at 2 i + 1; the end
  std::vector<int32_t> columns;
  int64_t rows() const { return static_cast<int64_t>(begin.size()) / 2; }
};

Signs signs_of(const Tensor& matrix) {
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

struct SignMatrix {
  Signs rows, columns;  // of the matrix and of its transpose
  float magnitude;
};

// The magnitude of the entries where it is one and they are few, else 0.
float magnitude_of(const float* data, int64_t n) {
  float magnitude = 0;
  int64_t entries = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (data[i] == 0) continue;
    const float own = std::abs(data[i]);
    if (magnitude == 0) magnitude = own;
    if (own != magnitude || ++entries * kShare > n) return 0;
  }
  return magnitude;
}

// What is known, by the memory that it is about.
class Known {
 public:
  std::shared_ptr<const SignMatrix> find(const Tensor& matrix) {
    const std::lock_guard lock(mutex_);
    std::erase_if(entries_, [](const auto& entry) { return entry.second.storage.expired(); });
    Entry& entry = entries_[{matrix.const_data_ptr<float>(), matrix.size(0), matrix.size(1)}];
    if (entry.known) return entry.signs;
    entry.known = true;
    entry.storage = matrix.storage().getWeakStorageImpl();
    const float magnitude = magnitude_of(matrix.const_data_ptr<float>(), matrix.numel());
    if (magnitude != 0) {
      entry.signs = std::make_shared<SignMatrix>(SignMatrix{signs_of(matrix), signs_of(matrix.t()), magnitude});
    }
    return entry.signs;
  }

 private:
  using Key = std::tuple<const float*, int64_t, int64_t>;  // address and sizes
  struct Entry {
    bool known = false;
    c10::weak_intrusive_ptr<c10::StorageImpl> storage{c10::intrusive_ptr<c10::StorageImpl>()};
    std::shared_ptr<const SignMatrix> signs;  // or none
  };
  std::mutex mutex_;
  std::map<Key, Entry> entries_;
};

// A matrix as it is or as its transpose lies in memory.
struct Found {
  std::shared_ptr<const SignMatrix> matrix;
  bool turned = false;
  const Signs& signs() const { return turned ? matrix->columns : matrix->rows; }
};

Found find(const Tensor& matrix) {
  static Known known;
  if (!matrix.is_cpu() || matrix.scalar_type() != at::kFloat || matrix.numel() < kLeastNumbers) return {};
  const bool turned = !matrix.is_contiguous();
  const Tensor rows = turned ? matrix.t() : matrix;
  // Most matrices are told by their first row.
  if (!rows.is_contiguous() || magnitude_of(rows.const_data_ptr<float>(), rows.size(1)) == 0) return {};
  return {known.find(rows), turned};
}

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

// Rows [first, last) of signs times `from` [., n], rows without gaps.
DELTAW_VECTORISED
void multiply(const Signs& signs, float magnitude, int64_t first, int64_t last, const float* from, float* to,
              int64_t n) {
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

Tensor multiplied(const Found& found, const Tensor& dense) {
  const Signs& signs = found.signs();
  const Tensor rows = dense.contiguous(), result = at::empty({signs.rows(), dense.size(1)}, dense.options());
  const float* from = rows.const_data_ptr<float>();
  float* to = result.data_ptr<float>();
  at::parallel_for(0, signs.rows(), 16, [&](int64_t first, int64_t last) {
    multiply(signs, found.matrix->magnitude, first, last, from, to, dense.size(1));
  });
  return result;
}

bool fits(const Found& found, const Tensor& dense, int64_t n) {
  return found.matrix && dense.scalar_type() == at::kFloat && n % kVectorLanes == 0 && n > 0;
}

}  // namespace

Tensor product(const Tensor& a, const Tensor& b) {
  if (const Found found = find(a); fits(found, b, b.size(1))) return multiplied(found, b);
  Found found = find(b);
  if (!fits(found, a, a.size(0))) return at::mm(a, b);
  found.turned = !found.turned;  // a b = (b^T a^T)^T
  return multiplied(found, a.t()).t().contiguous();
}

}  // namespace deltaw::ops

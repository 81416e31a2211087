#include "ops/attention/score_rows.h"

#include <algorithm>

#include "ops/attention/attention.h"
#include "ops/tiles.h"
#include "ops/vectors.h"

namespace deltaw::ops {

DELTAW_VECTORISED
void exponentials(float* __restrict scores, int64_t width, Normaliser by) {
  constexpr float kLowest = -87;
  for (int64_t j = 0; j < width; j += kTileColumns) {
    for (int64_t lane = j; lane < j + kTileColumns; ++lane) {
      const float x = by.scale * scores[lane] - by.greatest;
      const float e = exp_negative(x < kLowest ? kLowest : x);
      scores[lane] = x < kLowest ? 0 : by.factor * e;
    }
  }
}

DELTAW_VECTORISED
float sum_of(const float* __restrict x, int64_t width) {
  return total(width / kTileColumns * kTileColumns, [&](int64_t j) DELTAW_INLINE { return x[j]; });
}

DELTAW_VECTORISED
float greatest_of(const float* __restrict x, int64_t width) {
  float lanes[kTileColumns];
  std::fill_n(lanes, kTileColumns, -std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < width; j += kTileColumns) {
    for (int64_t lane = 0; lane < kTileColumns; ++lane) {
      lanes[lane] = x[j + lane] > lanes[lane] ? x[j + lane] : lanes[lane];
    }
  }
  for (int64_t half = kTileColumns / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) {
      lanes[lane] = lanes[half + lane] > lanes[lane] ? lanes[half + lane] : lanes[lane];
    }
  }
  return lanes[0];
}

DELTAW_VECTORISED
void scale_row(float* __restrict x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

DELTAW_VECTORISED
void add_row(float* __restrict x, const float* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

DELTAW_VECTORISED
void multiply_row(float* __restrict x, const float* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= y[i];
}

DELTAW_VECTORISED
float dot(const float* __restrict x, const float* __restrict y, int64_t n) {
  return total(n, [&](int64_t j) DELTAW_INLINE { return x[j] * y[j]; });
}

DELTAW_VECTORISED
void hide_other_documents(float* __restrict scores, const int32_t* __restrict documents, int32_t own, int64_t n) {
  constexpr auto kEvery = static_cast<int32_t>(CausalKeys::kEveryDocument);
  for (int64_t j = 0; j < n; ++j) scores[j] = documents[j] == own || documents[j] == kEvery ? scores[j] : kHidden;
}

DELTAW_VECTORISED
void hide_before(float* __restrict scores, const int32_t* __restrict places, int32_t first, int64_t n) {
  for (int64_t j = 0; j < n; ++j) scores[j] = places[j] < first ? kHidden : scores[j];
}

DELTAW_VECTORISED
void softmax_gradient(const float* __restrict p, float* __restrict dp, float mean, int64_t n) {
  for (int64_t j = 0; j < n; ++j) dp[j] = p[j] * (dp[j] - mean);
}

}  // namespace deltaw::ops

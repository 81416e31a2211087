// Loops over a row of attention's scores. Rows are whole tiles long, so that no loop has an end of its own, where
// nothing else is said.
#pragma once

#include <cstdint>
#include <limits>

namespace deltaw::ops {

/// Of what a query must not see.
constexpr float kHidden = std::numeric_limits<float>::lowest();

/// Of a row of scores: the scale that they still lack, the greatest of them with it, and what exponentials are
/// multiplied by.
struct Normaliser {
  float scale, greatest, factor;
};

/// scores <- factor e^(scale scores - greatest)
void exponentials(float* scores, int64_t width, Normaliser by);
float sum_of(const float* x, int64_t width);
float greatest_of(const float* x, int64_t width);

/// Of n numbers.
void scale_row(float* x, float factor, int64_t n);
void add_row(float* x, const float* y, int64_t n);
void multiply_row(float* x, const float* y, int64_t n);
float dot(const float* x, const float* y, int64_t n);

/// Hides the n keys of documents other than `own`, but for those of all; those at places before `first`.
void hide_other_documents(float* scores, const int32_t* documents, int32_t own, int64_t n);
void hide_before(float* scores, const int32_t* places, int32_t first, int64_t n);

/// dp <- p (dp - mean), where mean is the sum of p dp over all keys.
void softmax_gradient(const float* p, float* dp, float mean, int64_t n);

}  // namespace deltaw::ops

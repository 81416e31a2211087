// x sigmoid(c x) at one place, and what it shares with other activations, for loops over rows of float (ops/vectors.h).
#pragma once

#include <cmath>

#include "ops/vectors.h"

namespace deltaw::ops {

// An activation at one place, and its derivative.
struct Point {
  float value, slope;
};

DELTAW_INLINE inline float magnitude(float x, float limit) {  // NaN stays NaN
  const float a = std::abs(x);
  return a > limit ? limit : a;
}

// x share(x), where share(-x) = 1 - share(x) runs from zero to one: max(x, 0) - a share(-a) with a = |x|. `tail` is
// share(-a) and `density` the derivative there; limits on a keep them normal numbers, and what they cut off is zero.
DELTAW_INLINE inline Point shared(float x, float a, float tail, float density) {
  const float slope = tail - a * density;  // at -a
  return {(x < 0 ? 0.0f : x) - a * tail, x < 0 ? slope : 1.0f - slope};
}

// x sigmoid(c x)
DELTAW_INLINE inline Point swish(float x, float c) {
  const float a = magnitude(x, 85.0f / c), e = exp_negative(-c * a), r = 1.0f / (1.0f + e), tail = e * r;
  return shared(x, a, tail, c * tail * r);
}

}  // namespace deltaw::ops

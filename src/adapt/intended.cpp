#include "adapt/intended.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "ops/sum.h"

namespace deltaw {
namespace {

constexpr int64_t kBlock = int64_t{1} << 21;  // elements; several tensors of them live at once
constexpr double kRoundings = 16;             // that a sum of products, a gain and a bias may be off by

Tensor wide(const Tensor& tensor) {
  return tensor.detach().to(at::kDouble);
}

Tensor norms(const Tensor& matrix, int64_t axis) {
  return at::linalg_vector_norm(matrix, 2, {axis});
}

double epsilon(const Tensor& W0) {
  return W0.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                         : double{std::numeric_limits<float>::epsilon()};
}

// Rows of the identity: the inputs that ask a layer for single columns.
Tensor units(int64_t begin, int64_t n, int64_t width) {
  return at::eye(n, width, at::kDouble).roll(begin, 1);
}

}  // namespace

Columns columns_of(const Update& u, const Tensor& W0, int64_t begin, int64_t n) {
  const at::NoGradGuard no_grad;
  const bool operates = u.before || u.beside;
  const Tensor inputs = operates ? units(begin, n, W0.size(1)) : Tensor();
  Tensor W = wide(W0.narrow(1, begin, n)), size = W.abs();  // of the terms that are added up
  if (u.before) {
    const Tensor turned = u.before(inputs), whole = wide(W0);
    W = at::mm(whole, turned.t());
    size = at::outer(norms(whole, 1), norms(turned, 1));
  }
  Tensor delta;
  if (u.left.defined()) {
    const Tensor left = wide(u.left);
    Tensor right = wide(u.right.narrow(1, begin, n));
    if (u.middle.defined()) right = wide(u.middle).unsqueeze(1) * right;
    delta = at::mm(left, right);
    size = size + at::outer(norms(left, 1), norms(right, 0)) * std::abs(u.scale);
  }
  if (u.dense.defined()) {
    const Tensor dense = wide(u.dense.narrow(1, begin, n));
    delta = ops::plus(delta, dense);
    size = size + dense.abs() * std::abs(u.scale);
  }
  if (delta.defined()) W = W + delta * u.scale;
  const auto gain = [&](const Tensor& g) {
    W = W * g;
    size = size * g.abs();
  };
  if (u.out_gain.defined()) gain(wide(u.out_gain).unsqueeze(1));
  if (u.in_gain.defined()) gain(wide(u.in_gain.narrow(0, begin, n)).unsqueeze(0));
  if (u.beside) {
    const Tensor own = u.beside(inputs).t() * u.scale;
    W = W + own;
    size = size + at::maximum(own.abs(), W.abs()).amax(1, /*keepdim=*/true);  // what it adds up is its own affair
  }
  return {W, size * (kRoundings * epsilon(W0))};
}

void each_block(const Update& update, const Tensor& W0,
                const std::function<void(int64_t begin, const Columns& block)>& see) {
  const int64_t width = W0.size(1), most = std::max<int64_t>(kBlock / std::max<int64_t>(W0.size(0), 1), 1);
  for (int64_t begin = 0; begin < width; begin += most) {
    see(begin, columns_of(update, W0, begin, std::min(most, width - begin)));
  }
}

Columns bias_of(const Update& u, const Tensor& bias) {
  if (!bias.defined()) return {};
  const at::NoGradGuard no_grad;
  Tensor value = wide(bias), size = value.abs();
  if (u.gain_on_bias && u.out_gain.defined()) {
    value = value * wide(u.out_gain);
    size = value.abs();
  }
  if (u.bias.defined()) {
    const Tensor own = wide(u.bias) * u.scale;
    value = value + own;
    size = size + own.abs();
  }
  return {value, size * (kRoundings * epsilon(bias))};
}

Tensor is_rounded(const Tensor& actual, const Columns& expected, at::ScalarType type) {
  // Rounding keeps the order, so this bounds what rounding once can give, from whichever side of a tie.
  const auto rounded = [&](const Tensor& value) { return value.to(type).to(at::kDouble); };
  const Tensor lowest = rounded(expected.weight - expected.slack), highest = rounded(expected.weight + expected.slack);
  const Tensor value = wide(actual);
  return value.ge(lowest).logical_and(value.le(highest));
}

}  // namespace deltaw

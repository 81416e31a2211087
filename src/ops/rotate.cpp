#include "ops/rotate.h"

#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <type_traits>
#include <vector>

#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Head {
  const float* x;
  const float* cos;
  const float* sin;
  float sign;  // -1 turns back
  float* y;
};

template <bool kBFloat16>
DELTAW_INLINE inline void turn(const Head& head, int64_t half, int64_t width) {
  const float* __restrict first = head.x;
  const float* __restrict second = head.x + half;
  const float* __restrict cos = head.cos;
  const float* __restrict sin = head.sin;
  float* __restrict y_first = head.y;
  float* __restrict y_second = head.y + half;
  const float sign = head.sign;
  for (int64_t i = 0; i < half; ++i) {
    const float s = sign * sin[i];
    y_first[i] = in_type<kBFloat16>(first[i] * cos[i]) - in_type<kBFloat16>(second[i] * s);
    y_second[i] = in_type<kBFloat16>(second[i] * cos[i]) + in_type<kBFloat16>(first[i] * s);
  }
  for (int64_t i = 2 * half; i < width; ++i) head.y[i] = head.x[i];
}

DELTAW_VECTORISED
void turn_head(const Head& head, bool bfloat16, int64_t half, int64_t width) {
  if (bfloat16) {
    turn<true>(head, half, width);
  } else {
    turn<false>(head, half, width);
  }
}

// Element [b, h, s, 0] of a tensor [batch, heads, seq, width] whose rows have no gaps.
template <class Scalar>
Scalar* at_head(at::IntArrayRef strides, Scalar* data, int64_t b, int64_t h, int64_t s) {
  return data + b * strides[0] + h * strides[1] + s * strides[2];
}

template <class Scalar>
void run(const Tensor& x, const Tensor& cos, const Tensor& sin, float sign, Tensor& y) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const int64_t heads = x.size(1), seq = x.size(2), width = x.size(3), half = cos.size(3);
  const Scalar* const xs = x.const_data_ptr<Scalar>();
  const Scalar* const cosines = cos.const_data_ptr<Scalar>();
  const Scalar* const sines = sin.const_data_ptr<Scalar>();
  Scalar* const ys = y.mutable_data_ptr<Scalar>();
  const at::IntArrayRef from = x.strides(), to = y.strides(), angles = cos.strides();
  RowTasks(x.size(0) * seq, heads * width).run([&](int64_t, int64_t begin, int64_t end) {
    const auto buffers = std::make_unique_for_overwrite<float[]>(kBFloat16 ? 2 * width + 2 * half : 0);
    float *const in = buffers.get(), *const out = in + width, *const turns = out + width;
    for (int64_t token = begin; token < end; ++token) {
      const int64_t b = token / seq, s = token % seq;
      const float* const c = readable(at_head(angles, cosines, b, 0, s), turns, half);
      const float* const n = readable(at_head(angles, sines, b, 0, s), turns + half, half);
      for (int64_t h = 0; h < heads; ++h) {
        Scalar* const target = at_head(to, ys, b, h, s);
        const Head head{.x = readable(at_head(from, xs, b, h, s), in, width),
                        .cos = c,
                        .sin = n,
                        .sign = sign,
                        .y = writable(target, out)};
        turn_head(head, kBFloat16, half, width);
        store(head.y, target, width);
      }
    }
  });
}

// Attention multiplies one head after the other. The gradient goes on to linear layers, which read a token's heads side
// by side.
enum class Layout { by_head, by_token };

Tensor turned(const Tensor& x, const Tensor& cos, const Tensor& sin, float sign, Layout layout) {
  const int64_t batch = x.size(0), heads = x.size(1), seq = x.size(2), width = x.size(3);
  const auto options = x.options().memory_format(at::MemoryFormat::Contiguous);
  Tensor y = layout == Layout::by_head ? at::empty({batch, heads, seq, width}, options)
                                       : at::empty({batch, seq, heads, width}, options).transpose(1, 2);
  const auto for_all = [&](const Tensor& angles) {
    return angles.contiguous().expand({batch, 1, seq, angles.size(3)});
  };
  const Tensor rows = x.stride(3) == 1 || width == 1 ? x : x.contiguous();
  const auto turn_all = x.scalar_type() == at::kFloat ? run<float> : run<at::BFloat16>;
  turn_all(rows, for_all(cos), for_all(sin), sign, y);
  return y;
}

class Rotated : public torch::autograd::Function<Rotated> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return turned(x, cos, sin, 1, Layout::by_head);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    return {turned(gradients[0], saved[0], saved[1], -1, Layout::by_token), Tensor(), Tensor()};
  }
};

Tensor plain(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t half = cos.size(3), width = x.size(3);
  const Tensor first = x.narrow(3, 0, half), second = x.narrow(3, half, half);
  std::vector<Tensor> parts{first * cos - second * sin, second * cos + first * sin};
  if (2 * half < width) parts.push_back(x.narrow(3, 2 * half, width - 2 * half));
  return at::cat(parts, 3);
}

}  // namespace

Tensor rotated(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const bool alike = cos.scalar_type() == x.scalar_type() && sin.scalar_type() == x.scalar_type();
  if (!has_kernels(x) || !alike) return plain(x, cos, sin);
  const bool recorded = at::GradMode::is_enabled() && x.requires_grad();
  return recorded ? Rotated::apply(x, cos, sin) : turned(x, cos, sin, 1, Layout::by_head);
}

}  // namespace deltaw::ops

#include "ops/group_norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <memory>
#include <type_traits>

#include "ops/layers.h"
#include "ops/swish.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Moments {
  float mean, rstd;
};

// The channels of one group of one picture, one behind the other.
struct Group {
  const float* x;
  const float* weight;
  const float* bias;
  int64_t channels, places;  // of each channel

  int64_t count() const { return channels * places; }
};

template <bool kBFloat16, bool kSilu>
DELTAW_INLINE inline Moments forward(const Group& group, float eps, float* y_) {
  const float* __restrict x = group.x;
  float* __restrict y = y_;
  const int64_t n = group.count();
  const auto count = static_cast<float>(n);
  const float mean = total(n, [&](int64_t i) DELTAW_INLINE { return x[i]; }) / count;
  const float squares = total(n, [&](int64_t i) DELTAW_INLINE { return (x[i] - mean) * (x[i] - mean); });
  const float rstd = 1.0f / std::sqrt(squares / count + eps);
  for (int64_t c = 0; c < group.channels; ++c, x += group.places, y += group.places) {
    const float slope = rstd * group.weight[c], shift = group.bias[c];
    for (int64_t i = 0; i < group.places; ++i) {
      const float z = in_type<kBFloat16>((x[i] - mean) * slope + shift);
      y[i] = kSilu ? swish(z, 1.0f).value : z;
    }
  }
  return {mean, rstd};
}

DELTAW_VECTORISED
Moments forward_group(const Group& group, float eps, bool silu, bool bfloat16, float* y) {
  if (bfloat16) return silu ? forward<true, true>(group, eps, y) : forward<true, false>(group, eps, y);
  return silu ? forward<false, true>(group, eps, y) : forward<false, false>(group, eps, y);
}

struct BackwardGroup {
  const float* dy;
  float* dx;       // also where the gradient behind the norm stands meanwhile
  float* dweight;  // [channels]
  float* dbias;    // [channels]
};

template <bool kBFloat16, bool kSilu>
DELTAW_INLINE inline void backward(const Group& group, const Moments& moments, const BackwardGroup& out) {
  const float mean = moments.mean, rstd = moments.rstd;
  float level = 0, slope = 0;
  for (int64_t c = 0; c < group.channels; ++c) {
    const float* __restrict x = group.x + c * group.places;
    const float* __restrict dy = out.dy + c * group.places;
    float* __restrict dz = out.dx + c * group.places;
    const float weight = group.weight[c], steep = rstd * weight, shift = group.bias[c];
    for (int64_t i = 0; i < group.places; ++i) {
      const float z = in_type<kBFloat16>((x[i] - mean) * steep + shift);
      dz[i] = kSilu ? in_type<kBFloat16>(dy[i] * swish(z, 1.0f).slope) : dy[i];
    }
    const float sum = total(group.places, [&](int64_t i) DELTAW_INLINE { return dz[i]; });
    const float along = rstd * total(group.places, [&](int64_t i) DELTAW_INLINE { return dz[i] * (x[i] - mean); });
    out.dbias[c] = sum;
    out.dweight[c] = along;
    level += weight * sum;
    slope += weight * along;
  }
  const auto count = static_cast<float>(group.count());
  level /= count;
  slope *= rstd / count;
  for (int64_t c = 0; c < group.channels; ++c) {
    const float* __restrict x = group.x + c * group.places;
    float* __restrict dx = out.dx + c * group.places;
    const float weight = group.weight[c];
    for (int64_t i = 0; i < group.places; ++i) dx[i] = rstd * (weight * dx[i] - level - (x[i] - mean) * slope);
  }
}

DELTAW_VECTORISED
void backward_group(const Group& group, const Moments& moments, const BackwardGroup& out, bool silu, bool bfloat16) {
  if (bfloat16) {
    return silu ? backward<true, true>(group, moments, out) : backward<true, false>(group, moments, out);
  }
  return silu ? backward<false, true>(group, moments, out) : backward<false, false>(group, moments, out);
}

// x in rows of one group each, and which channels a row has.
struct GroupRows {
  Tensor x, weight, bias;  // [batch groups, numbers]; the others as float32
  int64_t batch, channels, groups, places;

  GroupRows(const Tensor& x_, const Tensor& weight_, const Tensor& bias_, int64_t groups_)
      : x(x_.contiguous()),
        weight(weight_.detach().to(at::kFloat).contiguous()),
        bias(bias_.detach().to(at::kFloat).contiguous()),
        batch(x_.size(0)),
        channels(x_.size(1)),
        groups(groups_),
        places(x_.numel() / (x_.size(0) * x_.size(1))) {}

  int64_t rows() const { return batch * groups; }
  int64_t channels_of_row() const { return channels / groups; }
  int64_t numbers() const { return channels_of_row() * places; }
  Group group(int64_t row, const float* numbers_) const {
    const int64_t first = (weight.dim() == 2 ? row : row % groups) * channels_of_row();
    return {.x = numbers_,
            .weight = weight.const_data_ptr<float>() + first,
            .bias = bias.const_data_ptr<float>() + first,
            .channels = channels_of_row(),
            .places = places};
  }
};

template <class Scalar>
void run_forward(const GroupRows& in, float eps, bool silu, Tensor& y, Tensor& moments) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const int64_t n = in.numbers();
  const Scalar* const xs = in.x.const_data_ptr<Scalar>();
  Scalar* const ys = y.mutable_data_ptr<Scalar>();
  float* const kept = moments.mutable_data_ptr<float>();
  RowTasks(in.rows(), n).run([&](int64_t, int64_t begin, int64_t end) {
    const auto buffers = std::make_unique_for_overwrite<float[]>(kBFloat16 ? 2 * n : 0);
    float* const buffer = buffers.get();
    for (int64_t row = begin; row < end; ++row) {
      float* const out = writable(ys + row * n, buffer + n);
      const Moments found = forward_group(in.group(row, readable(xs + row * n, buffer, n)), eps, silu, kBFloat16, out);
      store(out, ys + row * n, n);
      kept[2 * row] = found.mean;
      kept[2 * row + 1] = found.rstd;
    }
  });
}

struct Gradients {
  Tensor x, weight, bias;  // the last two [batch, channels], float32
};

template <class Scalar>
void run_backward(const GroupRows& in, const Tensor& moments, const Tensor& dy, bool silu, Gradients& found) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const int64_t n = in.numbers();
  const Scalar* const xs = in.x.const_data_ptr<Scalar>();
  const Scalar* const dys = dy.const_data_ptr<Scalar>();
  Scalar* const dxs = found.x.mutable_data_ptr<Scalar>();
  float* const dweights = found.weight.mutable_data_ptr<float>();
  float* const dbiases = found.bias.mutable_data_ptr<float>();
  const float* const kept = moments.const_data_ptr<float>();
  RowTasks(in.rows(), n).run([&](int64_t, int64_t begin, int64_t end) {
    const auto buffers = std::make_unique_for_overwrite<float[]>(kBFloat16 ? 3 * n : 0);
    float* const buffer = buffers.get();
    for (int64_t row = begin; row < end; ++row) {
      const BackwardGroup out{.dy = readable(dys + row * n, buffer + n, n),
                              .dx = writable(dxs + row * n, buffer + 2 * n),
                              .dweight = dweights + row * in.channels_of_row(),
                              .dbias = dbiases + row * in.channels_of_row()};
      backward_group(in.group(row, readable(xs + row * n, buffer, n)), {kept[2 * row], kept[2 * row + 1]}, out, silu,
                     kBFloat16);
      store(out.dx, dxs + row * n, n);
    }
  });
}

class GroupNormed : public torch::autograd::Function<GroupNormed> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups,
                        double eps, bool silu) {
    const GroupRows in(x, weight, bias, groups);
    Tensor y = unfilled(x), moments = at::empty({in.rows(), 2}, x.options().dtype(at::kFloat));
    const auto run = x.scalar_type() == at::kFloat ? run_forward<float> : run_forward<at::BFloat16>;
    run(in, static_cast<float>(eps), silu, y, moments);
    ctx->save_for_backward({in.x, moments, weight, bias});
    ctx->saved_data["groups"] = groups;
    ctx->saved_data["silu"] = silu;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[2];
    const GroupRows in(x, weight, saved[3], ctx->saved_data["groups"].toInt());
    const auto sums = [&] { return at::empty({in.batch, in.channels}, x.options().dtype(at::kFloat)); };
    Gradients found{.x = unfilled(x), .weight = sums(), .bias = sums()};
    const auto run = x.scalar_type() == at::kFloat ? run_backward<float> : run_backward<at::BFloat16>;
    run(in, saved[1], gradients[0].contiguous(), ctx->saved_data["silu"].toBool(), found);
    variable_list result(6);  // the last three of no tensors
    result[0] = found.x;
    const auto own = [&](const Tensor& parts) {
      return (weight.dim() == 2 ? parts : parts.sum(0)).to(weight.scalar_type());
    };
    if (ctx->needs_input_grad(1)) result[1] = own(found.weight);
    if (ctx->needs_input_grad(2)) result[2] = own(found.bias);
    return result;
  }
};

Tensor plain(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups, double eps, bool silu) {
  Tensor y;
  if (weight.dim() == 1) {
    y = at::group_norm(x, groups, weight, bias, eps);
  } else {
    std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
    shape[0] = x.size(0);
    shape[1] = x.size(1);
    y = at::group_norm(x, groups, {}, {}, eps) * weight.view(shape) + bias.view(shape);
  }
  return silu ? at::silu(y) : y;
}

}  // namespace

Tensor group_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t groups, double eps, bool silu) {
  if (!has_kernels(x)) return plain(x, weight, bias, groups, eps, silu);
  return GroupNormed::apply(x, weight, bias, groups, eps, silu);
}

Tensor GroupNorm::operator()(const Tensor& x, const Call& call) const {
  const at::ScalarType type = x.scalar_type();
  return group_norm(x, value_of(norm->weight, call, type), value_of(norm->bias, call, type), groups, norm->eps, false);
}

Tensor GroupNorm::silu(const Tensor& x, const Call& call) const {
  const at::ScalarType type = x.scalar_type();
  return group_norm(x, value_of(norm->weight, call, type), value_of(norm->bias, call, type), groups, norm->eps, true);
}

Tensor GroupNorm::silu(const Tensor& x, const Tensor& scale, const Tensor& shift, const Call& call) const {
  const at::ScalarType type = x.scalar_type();
  const Tensor own_scale = 1 + scale;
  return group_norm(x, value_of(norm->weight, call, type) * own_scale,
                    value_of(norm->bias, call, type) * own_scale + shift, groups, norm->eps, true);
}

}  // namespace deltaw::ops

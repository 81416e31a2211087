#include "ops/norms.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <memory>
#include <optional>
#include <type_traits>

#include "ops/layers.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// In transformers' order of casts: Llama rounds to the model's type before it multiplies by the weight, Gemma after.
bool rounds_first(bool centred, double offset) {
  return !centred && offset == 0;
}

struct Moments {
  float mean, rstd;  // of an RMSNorm zero and the reciprocal root mean square
};

// What the kernels know of a norm.
struct Form {
  const float* weight;
  const float* bias;  // or null
  float offset, eps;
  bool centred, rounds_first;
};

struct ForwardRow {
  const float* x;
  const float* residual;  // or null
  float* sum;             // x + residual
  float* y;
};

template <bool kBFloat16, bool kRoundsFirst>
DELTAW_INLINE inline Moments forward(const ForwardRow& row, const Form& form, int64_t n) {
  const float* __restrict x = row.x;
  if (row.residual) {
    const float* __restrict residual = row.residual;
    float* __restrict sum = row.sum;
    for (int64_t i = 0; i < n; ++i) sum[i] = in_type<kBFloat16>(x[i] + residual[i]);
    x = sum;
  }
  const auto count = static_cast<float>(n);
  const float mean = form.centred ? total(n, [&](int64_t i) DELTAW_INLINE { return x[i]; }) / count : 0.0f;
  const float squares = total(n, [&](int64_t i) DELTAW_INLINE { return (x[i] - mean) * (x[i] - mean); });
  const float rstd = 1.0f / std::sqrt(squares / count + form.eps);
  const float* __restrict weight = form.weight;
  const float* __restrict bias = form.bias;
  float* __restrict y = row.y;
  const float offset = form.offset;
  const auto scaled = [&](int64_t i)
                          DELTAW_INLINE { return in_type<kRoundsFirst>((x[i] - mean) * rstd) * (weight[i] + offset); };
  if (bias) {
    for (int64_t i = 0; i < n; ++i) y[i] = scaled(i) + bias[i];
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = scaled(i);
  }
  return {mean, rstd};
}

DELTAW_VECTORISED
Moments forward_row(const ForwardRow& row, const Form& form, bool bfloat16, int64_t n) {
  if (!bfloat16) return forward<false, false>(row, form, n);
  return form.rounds_first ? forward<true, true>(row, form, n) : forward<true, false>(row, form, n);
}

struct BackwardRow {
  const float* x;
  const float* dy;
  const float* dsum;  // or null
  float* dx;          // these three null where nobody asks
  float* dweight;     // added to
  float* dbias;       // added to
};

template <bool kBFloat16, bool kRoundsFirst>
DELTAW_INLINE inline void backward(const BackwardRow& row, const Form& form, const Moments& moments, int64_t n) {
  const float* __restrict x = row.x;
  const float* __restrict dy = row.dy;
  const float* __restrict weight = form.weight;
  const float mean = moments.mean, rstd = moments.rstd, offset = form.offset;
  const auto scaled = [&](int64_t i) DELTAW_INLINE { return (x[i] - mean) * rstd; };
  const auto dscaled = [&](int64_t i) DELTAW_INLINE { return in_type<kRoundsFirst>(dy[i] * (weight[i] + offset)); };
  if (row.dx) {
    const float* __restrict dsum = row.dsum;
    float* __restrict dx = row.dx;
    const auto count = static_cast<float>(n);
    const float level = form.centred ? total(n, dscaled) / count : 0.0f;
    const float slope = total(n, [&](int64_t i) DELTAW_INLINE { return dscaled(i) * scaled(i); }) / count;
    const auto own = [&](int64_t i) DELTAW_INLINE { return rstd * (dscaled(i) - level - scaled(i) * slope); };
    if (dsum) {
      for (int64_t i = 0; i < n; ++i) dx[i] = in_type<kBFloat16>(own(i)) + dsum[i];
    } else {
      for (int64_t i = 0; i < n; ++i) dx[i] = own(i);
    }
  }
  if (row.dweight) {
    float* __restrict dweight = row.dweight;
    for (int64_t i = 0; i < n; ++i) dweight[i] += dy[i] * in_type<kRoundsFirst>(scaled(i));
  }
  if (row.dbias) {
    float* __restrict dbias = row.dbias;
    for (int64_t i = 0; i < n; ++i) dbias[i] += dy[i];
  }
}

DELTAW_VECTORISED
void backward_row(const BackwardRow& row, const Form& form, const Moments& moments, bool bfloat16, int64_t n) {
  if (!bfloat16) return backward<false, false>(row, form, moments, n);
  if (form.rounds_first) return backward<true, true>(row, form, moments, n);
  backward<true, false>(row, form, moments, n);
}

// Weight and bias as the kernels read them: as float.
struct Affine {
  Tensor weight, bias;
  Form form;

  Affine(const Tensor& weight_, const Tensor& bias_, bool centred, double offset, double eps)
      : weight(wide(weight_)), bias(wide(bias_)) {
    form = {.weight = weight.const_data_ptr<float>(),
            .bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr,
            .offset = static_cast<float>(offset),
            .eps = static_cast<float>(eps),
            .centred = centred,
            .rounds_first = rounds_first(centred, offset)};
  }

 private:
  static Tensor wide(const Tensor& tensor) {
    return tensor.defined() ? tensor.detach().to(at::kFloat).contiguous() : Tensor();
  }
};

Tensor rows_or_none(const Tensor& tensor) {
  return tensor.defined() ? as_rows(tensor) : tensor;
}

struct Forward {
  Tensor sum;  // undefined where there is no residual
  Tensor normalised;
  Tensor moments;  // [rows, 2] float32: mean and rstd; undefined where nothing is recorded
};

template <class Scalar>
void run_forward(const Tensor& x, const Tensor& residual, const Form& form, Forward& result) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const int64_t rows = x.size(0), width = x.size(1);
  const Rows<Scalar> xs(x), residuals(residual);
  Scalar* const sums = residual.defined() ? result.sum.mutable_data_ptr<Scalar>() : nullptr;
  Scalar* const ys = result.normalised.mutable_data_ptr<Scalar>();
  float* const moments = result.moments.defined() ? result.moments.mutable_data_ptr<float>() : nullptr;
  RowTasks(rows, width).run([&](int64_t, int64_t begin, int64_t end) {
    const auto buffers = std::make_unique_for_overwrite<float[]>(kBFloat16 ? 4 * width : 0);
    float* const buffer = buffers.get();
    for (int64_t i = begin; i < end; ++i) {
      Scalar* const sum = sums ? sums + i * width : nullptr;
      Scalar* const y = ys + i * width;
      const ForwardRow row{.x = xs.part(i, 0, width, buffer),
                           .residual = residuals.part(i, 0, width, buffer + width),
                           .sum = sum ? writable(sum, buffer + 2 * width) : nullptr,
                           .y = writable(y, buffer + 3 * width)};
      const Moments found = forward_row(row, form, kBFloat16, width);
      if (sum) store(row.sum, sum, width);
      store(row.y, y, width);
      if (!moments) continue;
      moments[2 * i] = found.mean;
      moments[2 * i + 1] = found.rstd;
    }
  });
}

Forward forward_pass(const Tensor& x, const Tensor& residual, const Affine& affine, bool records) {
  const Tensor rows = as_rows(x);
  Forward result;
  result.normalised = unfilled(x);
  if (residual.defined()) result.sum = unfilled(x);
  if (records) result.moments = at::empty({rows.size(0), 2}, at::kFloat);
  const auto run = x.scalar_type() == at::kFloat ? run_forward<float> : run_forward<at::BFloat16>;
  run(rows, rows_or_none(residual), affine.form, result);
  return result;
}

struct Gradients {
  Tensor x, weight, bias;  // float32 the last two
};
struct Wanted {
  bool x, weight, bias;
};

// Sums over rows are taken by task, and those in order: they do not depend on the number of threads.
Tensor partial_sums(bool wanted, int64_t tasks, int64_t width) {
  return wanted ? at::zeros({tasks, width}, at::kFloat) : Tensor();
}

Tensor summed(const Tensor& parts) {
  if (!parts.defined()) return {};
  const Tensor sum = at::zeros({parts.size(1)}, parts.options());
  float* const to = sum.mutable_data_ptr<float>();
  const float* from = parts.const_data_ptr<float>();
  for (int64_t task = 0; task < parts.size(0); ++task) {
    for (int64_t i = 0; i < parts.size(1); ++i) to[i] += *from++;
  }
  return sum;
}

template <class Scalar>
Gradients run_backward(const Tensor& sum, const Tensor& moments, const Tensor& dy, const Tensor& dsum, const Form& form,
                       const Wanted& wanted, Tensor dx) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const int64_t rows = sum.size(0), width = sum.size(1);
  const RowTasks tasks(rows, width);
  const Tensor dweights = partial_sums(wanted.weight, tasks.count, width);
  const Tensor dbiases = partial_sums(wanted.bias, tasks.count, width);
  const Rows<Scalar> xs(sum), dys(dy), dsums(dsum);
  const float* const kept = moments.const_data_ptr<float>();
  Scalar* const dxs = wanted.x ? dx.mutable_data_ptr<Scalar>() : nullptr;
  float* const weight_parts = wanted.weight ? dweights.mutable_data_ptr<float>() : nullptr;
  float* const bias_parts = wanted.bias ? dbiases.mutable_data_ptr<float>() : nullptr;
  tasks.run([&](int64_t task, int64_t begin, int64_t end) {
    const auto buffers = std::make_unique_for_overwrite<float[]>(kBFloat16 ? 4 * width : 0);
    float* const buffer = buffers.get();
    for (int64_t i = begin; i < end; ++i) {
      Scalar* const out = dxs ? dxs + i * width : nullptr;
      const BackwardRow row{.x = xs.part(i, 0, width, buffer),
                            .dy = dys.part(i, 0, width, buffer + width),
                            .dsum = dsums.part(i, 0, width, buffer + 2 * width),
                            .dx = out ? writable(out, buffer + 3 * width) : nullptr,
                            .dweight = weight_parts ? weight_parts + task * width : nullptr,
                            .dbias = bias_parts ? bias_parts + task * width : nullptr};
      backward_row(row, form, {kept[2 * i], kept[2 * i + 1]}, kBFloat16, width);
      if (out) store(row.dx, out, width);
    }
  });
  return {std::move(dx), summed(dweights), summed(dbiases)};
}

Gradients backward_pass(const Tensor& sum, const Tensor& moments, const Tensor& dy, const Tensor& dsum,
                        const Affine& affine, const Wanted& wanted) {
  Tensor dx;
  if (wanted.x) dx = unfilled(sum);
  const auto run = sum.scalar_type() == at::kFloat ? run_backward<float> : run_backward<at::BFloat16>;
  return run(as_rows(sum), moments, as_rows(dy), rows_or_none(dsum), affine.form, wanted, std::move(dx));
}

// An input that may be missing: torch counts those that are there.
std::optional<Tensor> given(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

// (x, residual, weight, bias) -> (normalised, sum), or (x, -, weight, bias) -> (normalised).
class Normalised : public torch::autograd::Function<Normalised> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& residual,
                               const Tensor& weight, const std::optional<Tensor>& bias, bool centred, double offset,
                               double eps) {
    const Affine affine(weight, bias.value_or(Tensor()), centred, offset, eps);
    Forward result = forward_pass(x, residual.value_or(Tensor()), affine, /*records=*/true);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({residual ? result.sum : x, result.moments, weight});
    ctx->saved_data["residual"] = residual.has_value();
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["centred"] = centred;
    ctx->saved_data["offset"] = offset;
    if (!residual) return {result.normalised};
    return {result.normalised, result.sum};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &sum = saved[0], &weight = saved[2];
    const bool residual = ctx->saved_data["residual"].toBool(), bias = ctx->saved_data["bias"].toBool();
    const bool wants_residual = residual && ctx->needs_input_grad(1);
    const size_t weight_input = residual ? 2 : 1;
    const Wanted wanted{.x = ctx->needs_input_grad(0) || wants_residual,
                        .weight = ctx->needs_input_grad(weight_input),
                        .bias = bias && ctx->needs_input_grad(weight_input + 1)};
    const Tensor &dy = gradients[0], dsum = residual ? gradients[1] : Tensor();
    variable_list result(7);  // the last three of no tensors
    if (dy.defined()) {
      const Affine affine(weight, {}, ctx->saved_data["centred"].toBool(), ctx->saved_data["offset"].toDouble(), 0);
      const Gradients found = backward_pass(sum, saved[1], dy, dsum, affine, wanted);
      result[0] = found.x;
      if (wanted.weight) result[2] = found.weight.to(weight.scalar_type());
      if (wanted.bias) result[3] = found.bias.to(weight.scalar_type());
    } else {
      result[0] = dsum;
    }
    if (wants_residual) result[1] = result[0];
    return result;
  }
};

bool records(const Tensor& tensor) {
  return tensor.defined() && tensor.requires_grad();
}

Sum with_kernels(const Tensor& x, const Tensor& residual, const Norm& norm, const Call& call) {
  const bool wide_weight = !norm.centred && !rounds_first(norm.centred, norm.offset);
  const at::ScalarType type = wide_weight ? at::kFloat : x.scalar_type();
  const Tensor weight = value_of(norm.weight, call, type), bias = value_of(norm.bias, call, type);
  const bool recorded =
      at::GradMode::is_enabled() && (records(x) || records(residual) || records(weight) || records(bias));
  if (!recorded) {
    Forward result = forward_pass(x, residual, Affine(weight, bias, norm.centred, norm.offset, norm.eps), false);
    return {std::move(result.sum), std::move(result.normalised)};
  }
  variable_list result =
      Normalised::apply(x, given(residual), weight, given(bias), norm.centred, norm.offset, norm.eps);
  return {residual.defined() ? std::move(result[1]) : Tensor(), std::move(result[0])};
}

bool has_kernels(const Tensor& x, const Norm& norm) {
  return ops::has_kernels(x) && x.dim() > 0 && norm.weight.value.is_cpu() &&
         norm.weight.value.sizes() == at::IntArrayRef{x.size(-1)};
}

Tensor plain(const Tensor& x, const Norm& norm, const Call& call) {
  const at::ScalarType type = x.scalar_type(), wide_type = type == at::kDouble ? type : at::kFloat;
  if (norm.centred) {
    return at::layer_norm(x, {x.size(-1)}, value_of(norm.weight, call, type), value_of(norm.bias, call, type),
                          norm.eps);
  }
  const Tensor wide = x.to(wide_type);
  const Tensor scaled = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + norm.eps);
  if (rounds_first(norm.centred, norm.offset)) return value_of(norm.weight, call, type) * scaled.to(type);
  return (scaled * (value_of(norm.weight, call, wide_type) + norm.offset)).to(type);
}

}  // namespace

Tensor normalised(const Tensor& x, const Norm& norm, const Call& call) {
  return has_kernels(x, norm) ? with_kernels(x, {}, norm, call).normalised : plain(x, norm, call);
}

Sum add_normalised(const Tensor& x, const Tensor& residual, const Norm& norm, const Call& call) {
  const bool alike = x.sizes() == residual.sizes() && x.scalar_type() == residual.scalar_type();
  if (alike && has_kernels(x, norm)) return with_kernels(x, residual, norm, call);
  Tensor sum = x + residual;
  const Tensor after = normalised(sum, norm, call);
  return {std::move(sum), after};
}

}  // namespace deltaw::ops

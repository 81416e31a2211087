#include "ops/activations.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>
#include <vector>

#include "deltaw/error.h"
#include "ops/swish.h"
#include "ops/vectors.h"

namespace deltaw::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Kind = Activation::Kind;

// x Phi(x). The normal tail Phi(-a) is e^(-a^2/2) times a smooth function of a, here a polynomial in t = 1 / (1 + 0.3
// a) of relative error 1.5e-7; value and slope share the exponential.
DELTAW_INLINE inline Point gelu(float x) {
  constexpr float kDensity = 0.398942280f;  // 1 / sqrt(2 pi)
  const float a = magnitude(x, 12.8f), e = exp_negative(-0.5f * a * a), t = 1.0f / (1.0f + 0.3f * a);
  float p = 0.03567477688f;
  p = p * t - 0.1572031081f;
  p = p * t + 0.2063535303f;
  p = p * t - 0.05368367210f;
  p = p * t + 0.1285617457f;
  p = p * t + 0.09991348534f;
  p = p * t + 0.1207539588f;
  p = p * t + 0.1196293011f;
  return shared(x, a, p * t * e, kDensity * e);
}

// 0.5 x (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
DELTAW_INLINE inline Point gelu_tanh(float x) {
  constexpr float kTwice = 1.59576912f;  // 2 sqrt(2 / pi)
  const float a = magnitude(x, 9.9f), square = a * a;
  const float e = exp_negative(-kTwice * a * (1.0f + 0.044715f * square));
  const float r = 1.0f / (1.0f + e), tail = e * r;
  return shared(x, a, tail, tail * r * kTwice * (1.0f + 3 * 0.044715f * square));
}

DELTAW_INLINE inline Point relu(float x) {
  return {x < 0 ? 0.0f : x, x <= 0 ? 0.0f : 1.0f};
}

DELTAW_INLINE inline Point hyperbolic_tangent(float x) {
  const float a = magnitude(x, 40.0f), e = exp_negative(-2.0f * a), r = 1.0f / (1.0f + e), z = a * a;
  float p = -0.005704987821f;  // of tanh(a) / a - 1 in a^2
  p = p * z + 0.02063908794f;
  p = p * z - 0.05373971529f;
  p = p * z + 0.1333144220f;
  p = p * z - 0.3333328194f;
  const float value = a < 0.625f ? a + a * (z * p) : (1.0f - e) * r;
  const float signed_value = x < 0 ? -value : value;
  return {x != x ? x : signed_value, 4.0f * e * r * r};
}

// visit(point) with the function that `kind` names.
template <class Visit>
DELTAW_INLINE inline void with_points(Kind kind, const Visit& visit) {
  switch (kind) {
    case Kind::gelu:
      return visit([](float x) DELTAW_INLINE { return gelu(x); });
    case Kind::gelu_tanh:
      return visit([](float x) DELTAW_INLINE { return gelu_tanh(x); });
    case Kind::quick_gelu:
      return visit([](float x) DELTAW_INLINE { return swish(x, 1.702f); });
    case Kind::relu:
      return visit([](float x) DELTAW_INLINE { return relu(x); });
    case Kind::silu:
      return visit([](float x) DELTAW_INLINE { return swish(x, 1.0f); });
    case Kind::tanh:
      return visit([](float x) DELTAW_INLINE { return hyperbolic_tangent(x); });
  }
}

struct ForwardRow {
  const float* x;
  const float* up;  // or null
  float* value;
};

template <bool kBFloat16, class At>
DELTAW_INLINE inline void forward(const ForwardRow& row, int64_t n, const At& at) {
  const float* __restrict x = row.x;
  float* __restrict value = row.value;
  if (row.up) {
    const float* __restrict up = row.up;
    for (int64_t i = 0; i < n; ++i) value[i] = in_type<kBFloat16>(at(x[i]).value) * up[i];
  } else {
    for (int64_t i = 0; i < n; ++i) value[i] = at(x[i]).value;
  }
}

DELTAW_VECTORISED
void forward_row(Kind kind, const ForwardRow& row, bool bfloat16, int64_t n) {
  with_points(kind, [&](const auto& at) DELTAW_INLINE {
    if (bfloat16) {
      forward<true>(row, n, at);
    } else {
      forward<false>(row, n, at);
    }
  });
}

struct BackwardRow {
  const float* x;
  const float* up;  // or null
  const float* dy;
  float* value;
  float* dx;
  float* dup;  // or null
};

template <bool kBFloat16, class At>
DELTAW_INLINE inline void backward(const BackwardRow& row, int64_t n, const At& at) {
  const float* __restrict x = row.x;
  const float* __restrict dy = row.dy;
  float* __restrict value = row.value;
  float* __restrict dx = row.dx;
  if (row.up) {
    const float* __restrict up = row.up;
    float* __restrict dup = row.dup;
    DELTAW_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      const Point point = at(x[i]);
      const float own = in_type<kBFloat16>(point.value);
      dx[i] = in_type<kBFloat16>(dy[i] * up[i]) * point.slope;
      dup[i] = dy[i] * own;
      value[i] = own * up[i];
    }
  } else {
    DELTAW_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      const Point point = at(x[i]);
      dx[i] = dy[i] * point.slope;
      value[i] = point.value;
    }
  }
}

DELTAW_VECTORISED
void backward_row(Kind kind, const BackwardRow& row, bool bfloat16, int64_t n) {
  with_points(kind, [&](const auto& at) DELTAW_INLINE {
    if (bfloat16) {
      backward<true>(row, n, at);
    } else {
      backward<false>(row, n, at);
    }
  });
}

// Tensors of one shape, cut into pieces that fit into the first cache. All as one row where none has gaps.
constexpr int64_t kPiece = 1024;

struct Pieces {
  int64_t rows, width, per_row;

  explicit Pieces(int64_t rows_, int64_t width_) : rows(rows_), width(width_), per_row((width + kPiece - 1) / kPiece) {}

  // work(row, begin, count)
  template <class Work>
  void run(const Work& work) const {
    RowTasks(rows * per_row, std::min(width, kPiece)).run([&](int64_t, int64_t first, int64_t last) {
      for (int64_t piece = first; piece < last; ++piece) {
        const int64_t begin = piece % per_row * kPiece;
        work(piece / per_row, begin, std::min(kPiece, width - begin));
      }
    });
  }
};

// The tensors as rows, with one row for all where they are contiguous.
std::vector<Tensor> shaped_alike(const std::vector<Tensor>& tensors) {
  const bool flat =
      std::all_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return !t.defined() || t.is_contiguous(); });
  std::vector<Tensor> result;
  for (const Tensor& t : tensors) result.push_back(!t.defined() ? t : flat ? t.view({1, -1}) : as_rows(t));
  return result;
}

template <class Scalar>
void run_forward(Kind kind, const Tensor& x, const Tensor& up, Tensor& value) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const Rows<Scalar> xs(x), ups(up);
  Scalar* const values = value.mutable_data_ptr<Scalar>();
  const int64_t width = x.size(1);
  Pieces(x.size(0), width).run([&](int64_t i, int64_t begin, int64_t n) {
    float buffers[3][kPiece];
    Scalar* const out = values + i * width + begin;
    const ForwardRow row{.x = xs.part(i, begin, n, buffers[0]),
                         .up = ups.part(i, begin, n, buffers[1]),
                         .value = writable(out, buffers[2])};
    forward_row(kind, row, kBFloat16, n);
    store(row.value, out, n);
  });
}

// Where `result.value` is undefined it is not written.
template <class Scalar>
void run_backward(Kind kind, const Tensor& x, const Tensor& up, const Tensor& dy, Activation::Backward& result) {
  constexpr bool kBFloat16 = std::is_same_v<Scalar, at::BFloat16>;
  const Rows<Scalar> xs(x), ups(up), dys(dy);
  const auto written = [](Tensor& t) { return t.defined() ? t.mutable_data_ptr<Scalar>() : nullptr; };
  Scalar *const values = written(result.value), *const dxs = written(result.dx), *const dups = written(result.dup);
  const int64_t width = x.size(1);
  Pieces(x.size(0), width).run([&](int64_t i, int64_t begin, int64_t n) {
    float buffers[6][kPiece];
    const int64_t place = i * width + begin;
    const auto target = [&](Scalar* to, float* buffer) { return to ? writable(to + place, buffer) : buffer; };
    const BackwardRow row{.x = xs.part(i, begin, n, buffers[0]),
                          .up = ups.part(i, begin, n, buffers[1]),
                          .dy = dys.part(i, begin, n, buffers[2]),
                          .value = target(values, buffers[3]),
                          .dx = target(dxs, buffers[4]),
                          .dup = target(dups, buffers[5])};
    backward_row(kind, row, kBFloat16, n);
    if (values) store(row.value, values + place, n);
    store(row.dx, dxs + place, n);
    if (dups) store(row.dup, dups + place, n);
  });
}

bool has_kernels(const Tensor& x, const Tensor& up) {
  return ops::has_kernels(x) && (!up.defined() || (up.sizes() == x.sizes() && up.scalar_type() == x.scalar_type()));
}

Tensor value_by_kernel(Kind kind, const Tensor& x, const Tensor& up) {
  Tensor value = unfilled(x);
  const std::vector<Tensor> rows = shaped_alike({x, up});
  const auto run = x.scalar_type() == at::kFloat ? run_forward<float> : run_forward<at::BFloat16>;
  run(kind, rows[0], rows[1], value);
  return value;
}

Activation::Backward backward_by_kernel(Kind kind, const Tensor& x, const Tensor& up, const Tensor& dy,
                                        bool wants_value) {
  Activation::Backward result{wants_value ? unfilled(x) : Tensor(), unfilled(x), up.defined() ? unfilled(x) : Tensor()};
  const std::vector<Tensor> rows = shaped_alike({x, up, dy});
  const auto run = x.scalar_type() == at::kFloat ? run_backward<float> : run_backward<at::BFloat16>;
  run(kind, rows[0], rows[1], rows[2], result);
  return result;
}

Tensor plain(Kind kind, const Tensor& x) {
  switch (kind) {
    case Kind::gelu:
      return at::gelu(x);
    case Kind::gelu_tanh:
      return at::gelu(x, "tanh");
    case Kind::quick_gelu:
      return x * at::sigmoid(x * 1.702);
    case Kind::relu:
      return at::relu(x);
    case Kind::silu:
      return at::silu(x);
    case Kind::tanh:
      return at::tanh(x);
  }
  return {};
}

Tensor plain(Kind kind, const Tensor& x, const Tensor& up) {
  return up.defined() ? plain(kind, x) * up : plain(kind, x);
}

class Activated : public torch::autograd::Function<Activated> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& up, Kind kind) {
    ctx->save_for_backward({x, up.value_or(Tensor())});
    ctx->saved_data["kind"] = static_cast<int64_t>(kind);
    return value_by_kernel(kind, x, up.value_or(Tensor()));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const auto kind = static_cast<Kind>(ctx->saved_data["kind"].toInt());
    Activation::Backward found = backward_by_kernel(kind, saved[0], saved[1], gradients[0], /*wants_value=*/false);
    return {std::move(found.dx), std::move(found.dup), Tensor()};
  }
};

Tensor activated(Kind kind, const Tensor& x, const Tensor& up) {
  if (!has_kernels(x, up)) return plain(kind, x, up);
  const bool recorded = at::GradMode::is_enabled() && (x.requires_grad() || (up.defined() && up.requires_grad()));
  if (!recorded) return value_by_kernel(kind, x, up);
  return Activated::apply(x, up.defined() ? std::optional(up) : std::nullopt, kind);
}

Kind kind_of(const std::string& name, const char* key) {
  if (name == "gelu" || name == "gelu_python") return Kind::gelu;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return Kind::gelu_tanh;
  if (name == "quick_gelu") return Kind::quick_gelu;
  if (name == "relu") return Kind::relu;
  if (name == "silu" || name == "swish") return Kind::silu;
  if (name == "tanh") return Kind::tanh;
  throw Error({.id = "config.unsupported",
               .what = "activation '" + name + "' is not implemented",
               .where = fmt::format("config.json, key \"{}\"", key),
               .fix = "supported: gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu, tanh"});
}

}  // namespace

Activation::Activation(const std::string& name, const char* key) : kind_(kind_of(name, key)) {}

Tensor Activation::operator()(const Tensor& x) const {
  return activated(kind_, x, {});
}

Tensor Activation::gated(const Tensor& x, const Tensor& up) const {
  return activated(kind_, x, up);
}

Tensor Activation::value(const Tensor& x, const Tensor& up) const {
  const at::NoGradGuard no_grad;
  return activated(kind_, x, up);
}

Activation::Backward Activation::backward(const Tensor& x, const Tensor& up, const Tensor& dy) const {
  if (has_kernels(x, up)) {
    const at::NoGradGuard no_grad;
    return backward_by_kernel(kind_, x, up, dy, /*wants_value=*/true);
  }
  const at::AutoGradMode enabled(true);
  variable_list leaves{x.detach().requires_grad_()};
  if (up.defined()) leaves.push_back(up.detach().requires_grad_());
  const Tensor value = plain(kind_, leaves[0], up.defined() ? leaves[1] : up);
  const variable_list found = torch::autograd::grad({value}, leaves, {dy});
  return {value.detach(), found[0], up.defined() ? found[1] : Tensor()};
}

}  // namespace deltaw::ops

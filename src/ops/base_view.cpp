#include <fmt/format.h>

#include "deltaw/error.h"
#include "deltaw/method.h"

namespace deltaw {
namespace {

Tensor at_least_float(const Tensor& weight) {
  return weight.scalar_type() == at::kDouble ? weight : weight.to(at::kFloat);
}

}  // namespace

BaseView::BaseView(Tensor weight, const Observed* observed) : weight_(std::move(weight)), observed_(observed) {}

const Tensor& BaseView::row_norms() const {
  std::call_once(norms_once_, [&] {
    const at::NoGradGuard frozen;
    norms_ = at::linalg_vector_norm(at_least_float(weight_), 2, {1});
  });
  return norms_;
}

Tensor BaseView::times(const Tensor& right) const {
  const at::ScalarType type = at::promote_types(right.scalar_type(), weight_.scalar_type());
  return at::mm(weight_.to(type), right.to(type));
}

// Decompositions are taken in float32 over any base, as PEFT takes them: an adapter that starts from them then means
// the same in both.
BaseView::Svd BaseView::svd(int64_t r) const {
  const at::NoGradGuard frozen;
  const auto [U, S, Vt] = at::linalg_svd(weight_.to(at::kFloat), /*full_matrices=*/false);
  return {U.narrow(1, 0, r).contiguous(), S.narrow(0, 0, r).contiguous(), Vt.narrow(0, 0, r).contiguous()};
}

BaseView::Svd BaseView::svd_lowrank(int64_t r, int64_t iterations, at::Generator& generator) const {
  const at::NoGradGuard frozen;
  const Tensor W = weight_.to(at::kFloat);
  const auto range = [](const Tensor& m) { return std::get<0>(at::linalg_qr(m)); };
  Tensor Q = range(at::mm(W, at::empty({d_in(), r}, W.options()).normal_(0, 1, generator)));
  for (int64_t i = 0; i < iterations; ++i) Q = range(at::mm(W, range(at::mm(W.t(), Q))));
  const auto [U, S, Vt] = at::linalg_svd(at::mm(Q.t(), W), /*full_matrices=*/false);
  return {at::mm(Q, U), S, Vt};
}

std::pair<Tensor, Tensor> BaseView::qr(int64_t r) const {
  const at::NoGradGuard frozen;
  const auto [Q, R] = at::linalg_qr(weight_.to(at::kFloat));
  return {Q.narrow(1, 0, r).contiguous(), R.narrow(0, 0, r).contiguous()};
}

const Tensor& Params::operator[](std::string_view name) const {
  for (const Param& param : params_) {
    if (param.name == name) return param.value;
  }
  throw Error({.id = "internal.no-param",
               .what = fmt::format("the method declared no tensor '{}'", name),
               .where = "Params",
               .fix = "declare it in declare() or declare_shared()"});
}

}  // namespace deltaw

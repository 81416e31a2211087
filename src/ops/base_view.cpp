#include <fmt/format.h>

#include "deltaw/error.h"
#include "deltaw/method.h"
#include "ops/quantised.h"
#include "ops/thin.h"

namespace deltaw {
namespace {

Tensor at_least_float(const Tensor& weight) {
  return weight.scalar_type() == at::kDouble ? weight : weight.to(at::kFloat);
}

}  // namespace

BaseView::BaseView(Tensor weight, const Observed* observed)
    : weight_(std::move(weight)), d_out_(weight_.size(0)), d_in_(weight_.size(1)), observed_(observed) {}

BaseView::BaseView(std::shared_ptr<const Quantised> weight, const Observed* observed)
    : quantised_(std::move(weight)), d_out_(quantised_->d_out()), d_in_(quantised_->d_in()), observed_(observed) {}

Tensor BaseView::weight() const {
  return quantised_ ? quantised_->dequantised() : weight_;
}

const Tensor& BaseView::row_norms() const {
  std::call_once(norms_once_, [&] {
    const at::NoGradGuard frozen;
    norms_ = at::linalg_vector_norm(at_least_float(weight()), 2, {1});
  });
  return norms_;
}

Tensor BaseView::times(const Tensor& right) const {
  const Tensor W = weight();
  const at::ScalarType type = at::promote_types(right.scalar_type(), W.scalar_type());
  return ops::thin_of(W.to(type), right.to(type).t());
}

// Decompositions are taken in float32 over any base, as PEFT takes them: an adapter that starts from them then means
// the same in both.
BaseView::Svd BaseView::svd(int64_t r) const {
  const at::NoGradGuard frozen;
  const auto [U, S, Vt] = at::linalg_svd(weight().to(at::kFloat), /*full_matrices=*/false);
  return {U.narrow(1, 0, r).contiguous(), S.narrow(0, 0, r).contiguous(), Vt.narrow(0, 0, r).contiguous()};
}

BaseView::Svd BaseView::svd_lowrank(int64_t r, int64_t iterations, at::Generator& generator) const {
  const at::NoGradGuard frozen;
  const Tensor W = weight().to(at::kFloat);
  const auto range = [](const Tensor& m) { return std::get<0>(at::linalg_qr(m)); };
  Tensor Q = range(at::mm(W, at::empty({d_in(), r}, W.options()).normal_(0, 1, generator)));
  for (int64_t i = 0; i < iterations; ++i) Q = range(at::mm(W, range(at::mm(W.t(), Q))));
  const auto [U, S, Vt] = at::linalg_svd(at::mm(Q.t(), W), /*full_matrices=*/false);
  return {at::mm(Q, U), S, Vt};
}

std::pair<Tensor, Tensor> BaseView::qr(int64_t r) const {
  const at::NoGradGuard frozen;
  const auto [Q, R] = at::linalg_qr(weight().to(at::kFloat));
  return {Q.narrow(1, 0, r).contiguous(), R.narrow(0, 0, r).contiguous()};
}

Update Update::in_two_factors() const {
  Update result = *this;
  if (middle.defined()) result.right = middle.unsqueeze(1) * right;
  result.middle = Tensor();
  return result;
}

Tensor Params::matrix(std::string_view name) const {
  for (const Param& param : params_) {
    if (param.name == name) return param.turned ? param.value.t() : param.value;
  }
  return (*this)[name];  // which says that it is not there
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

std::vector<Tensor> Params::trained() const {
  std::vector<Tensor> values;
  for (const Param& param : params_) {
    if (param.trained) values.push_back(param.value);
  }
  return values;
}

}  // namespace deltaw

#include <fmt/format.h>

#include "deltaw/error.h"
#include "deltaw/method.h"

namespace deltaw {

BaseView::BaseView(Tensor weight) : weight_(std::move(weight)) {}

const Tensor& BaseView::row_norms() const {
  std::call_once(norms_once_, [&] {
    const at::NoGradGuard frozen;
    norms_ = at::linalg_vector_norm(weight_.scalar_type() == at::kDouble ? weight_ : weight_.to(at::kFloat), 2, {1});
  });
  return norms_;
}

Tensor BaseView::times(const Tensor& right) const {
  const at::ScalarType type = at::promote_types(right.scalar_type(), weight_.scalar_type());
  return at::mm(weight_.to(type), right.to(type));
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

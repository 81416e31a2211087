// Methods that train tensors of the base itself and add none.
#pragma once

#include "deltaw/method.h"

namespace deltaw {

class BaseOnly final : public Method {
 public:
  struct Options {
    void fields(FieldVisitor&) {}
  };
  explicit BaseOnly(Options) {}

  std::vector<Param> declare(const LayerInfo&, const BaseView&, at::Generator&) const override { return {}; }
  Update update(const LayerInfo&, const Params&, const BaseView&) const override { return {}; }
};

}  // namespace deltaw

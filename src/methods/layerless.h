// Methods without tensors on layers: of the model as a whole, or the base's own.
#pragma once

#include "deltaw/method.h"

namespace deltaw {

class Layerless : public Method {
 public:
  std::vector<Param> declare(const LayerInfo&, const BaseView&, at::Generator&) const final { return {}; }
  Update update(const LayerInfo&, const Params&, const BaseView&) const final { return {}; }
};

/// Trains tensors of the base, and adds none; MethodSpec::acts_on says which.
class BaseOnly final : public Layerless {
 public:
  struct Options {
    void fields(FieldVisitor&) {}
  };
  explicit BaseOnly(Options) {}
};

}  // namespace deltaw

#include "deltaw/model.h"

namespace deltaw {

Tensor turned(LayerKind kind, const Tensor& weight) {
  return kind == LayerKind::linear ? weight : weight.t();
}

LayerInfo Layer::info() const {
  return {.name = name, .d_out = view->d_out(), .d_in = view->d_in(), .kind = kind};
}

}  // namespace deltaw

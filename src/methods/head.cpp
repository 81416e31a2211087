// The task's head alone on a frozen base: a linear probe. The reference from below.
#include "methods/layerless.h"

namespace deltaw {

const MethodSpec& method_head() {
  static const MethodSpec spec = make_spec<BaseOnly>({
      .id = "head",
      .title = "Head only",
      .paper = "arXiv:1610.01644",
      .peft_type = "HEAD",
      .acts_on = {},
      .parameter_count = "none but the head",
  });
  return spec;
}

}  // namespace deltaw

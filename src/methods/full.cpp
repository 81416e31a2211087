// Full fine-tuning: every tensor of the base trains. The reference that the methods are measured against.
//
// The file holds the whole model under its own names; `deltaw merge` makes a checkpoint of it.
#include "methods/layerless.h"

namespace deltaw {

const MethodSpec& method_full() {
  static const MethodSpec spec = make_spec<BaseOnly>({
      .id = "full",
      .title = "Full fine-tuning",
      .paper = "arXiv:1810.04805",
      .peft_type = "FULL",
      .acts_on = {ActsOn::every_tensor},
      .parameter_count = "d_out d_in + d_out",
  });
  return spec;
}

}  // namespace deltaw

// Adapters after the feed-forward sublayer only. Pfeiffer et al. 2020, arXiv:2005.00052, section 3.1; the placement is
// that of AdapterFusion, arXiv:2005.00247.
//
// The adapter of bottleneck.h stands after the feed-forward's second layer, behind the model's dropout and before the
// residual sum. Trained: 2 d m + m + d numbers a block. The activation is GELU, where AdapterHub has ReLU.
#include "methods/bottleneck.h"

namespace deltaw {

const MethodSpec& method_pfeiffer() {
  static const MethodSpec spec = make_spec<Bottleneck>({
      .id = "pfeiffer",
      .title = "Pfeiffer adapters",
      .paper = "arXiv:2005.00247",
      .peft_type = "PFEIFFER",
      .default_targets = &FamilySpec::feedforward_outputs,
      .identity_at_init = false,
      .acts_on = {ActsOn::sublayer_outputs},
      .tensor_prefix = "adapter_",
      .parameter_count = "2 d_out m + m + d_out, m = bottleneck_dim",
      .count = Bottleneck::count,
  });
  return spec;
}

}  // namespace deltaw

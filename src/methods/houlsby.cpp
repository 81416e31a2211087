// Adapters after both sublayers of a block. Houlsby et al. 2019, arXiv:1902.00751, figure 2.
//
// The adapter of bottleneck.h stands after the attention's output layer and after the feed-forward's second, each
// behind the model's dropout; every LayerNorm trains with it. Trained: 2 d m + m + d numbers a sublayer and the norms.
// The start is a normal distribution of the authors' width, not cut off at two deviations as theirs is.
#include "methods/bottleneck.h"

namespace deltaw {

const MethodSpec& method_houlsby() {
  static const MethodSpec spec = make_spec<Bottleneck>({
      .id = "houlsby",
      .title = "Houlsby adapters",
      .paper = "arXiv:1902.00751",
      .peft_type = "HOULSBY",
      .default_targets = &FamilySpec::sublayer_outputs,
      .identity_at_init = false,
      .acts_on = {ActsOn::sublayer_outputs, ActsOn::norms},
      .tensor_prefix = "adapter_",
      .parameter_count = "2 d_out m + m + d_out, m = bottleneck_dim",
      .count = Bottleneck::count,
  });
  return spec;
}

}  // namespace deltaw

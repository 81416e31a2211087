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
      .default_targets = {{"bert", ".*\\.layer\\.\\d+\\.output\\.dense"},
                          {"roberta", ".*\\.layer\\.\\d+\\.output\\.dense"},
                          {"llama", {"down_proj"}},
                          {"mistral", {"down_proj"}},
                          {"qwen2", {"down_proj"}},
                          {"qwen3", {"down_proj"}},
                          {"phi3", {"down_proj"}},
                          {"gemma2", {"down_proj"}},
                          {"gpt2", {"mlp.c_proj"}}},
      .identity_at_init = false,
      .mergeable = false,
      .on_outputs = true,
      .parameter_count = "2 d_out m + m + d_out, m = bottleneck_dim",
      .count = Bottleneck::count,
  });
  return spec;
}

}  // namespace deltaw

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
      .default_targets = {{"bert", {"output.dense"}},
                          {"roberta", {"output.dense"}},
                          {"llama", {"o_proj", "down_proj"}},
                          {"mistral", {"o_proj", "down_proj"}},
                          {"qwen2", {"o_proj", "down_proj"}},
                          {"qwen3", {"o_proj", "down_proj"}},
                          {"phi3", {"o_proj", "down_proj"}},
                          {"gemma2", {"o_proj", "down_proj"}},
                          {"gpt2", {"c_proj"}}},
      .identity_at_init = false,
      .mergeable = false,
      .on_outputs = true,
      .trains = BaseTensors::norms,
      .parameter_count = "2 d_out m + m + d_out, m = bottleneck_dim",
      .count = Bottleneck::count,
  });
  return spec;
}

}  // namespace deltaw

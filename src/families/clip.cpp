// CLIP (Radford et al. 2021, arXiv:2103.00020): an image and a text in one space. OpenAI's checkpoints and LAION's,
// which differ in their activation.
#include "models/clip.h"

namespace deltaw {

const FamilySpec& family_clip() {
  static const FamilySpec spec = clip_family("CLIP", "clip",
                                             {.image_defaults = {{"hidden_size", 768},
                                                                 {"intermediate_size", 3072},
                                                                 {"num_hidden_layers", 12},
                                                                 {"num_attention_heads", 12},
                                                                 {"patch_size", 32},
                                                                 {"hidden_act", "quick_gelu"},
                                                                 {"layer_norm_eps", 1e-5}},
                                              .text_defaults = {{"vocab_size", 49408},
                                                                {"hidden_size", 512},
                                                                {"intermediate_size", 2048},
                                                                {"num_hidden_layers", 12},
                                                                {"num_attention_heads", 8},
                                                                {"max_position_embeddings", 77},
                                                                {"hidden_act", "quick_gelu"},
                                                                {"layer_norm_eps", 1e-5},
                                                                {"eos_token_id", 49407}}});
  return spec;
}

}  // namespace deltaw

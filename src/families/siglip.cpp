// SigLIP (Zhai et al. 2023, arXiv:2303.15343), and SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786) where images have
// one size: each pair is right or wrong by itself. Texts are padded to one length, and the padding is read.
#include "models/clip.h"

namespace deltaw {

const FamilySpec& family_siglip() {
  static const FamilySpec spec = clip_family("Siglip", "siglip",
                                             {.image_defaults = {{"hidden_size", 768},
                                                                 {"intermediate_size", 3072},
                                                                 {"num_hidden_layers", 12},
                                                                 {"num_attention_heads", 12},
                                                                 {"hidden_act", "gelu_pytorch_tanh"},
                                                                 {"layer_norm_eps", 1e-6}},
                                              .text_defaults = {{"vocab_size", 32000},
                                                                {"hidden_size", 768},
                                                                {"intermediate_size", 3072},
                                                                {"num_hidden_layers", 12},
                                                                {"num_attention_heads", 12},
                                                                {"max_position_embeddings", 64},
                                                                {"hidden_act", "gelu_pytorch_tanh"},
                                                                {"layer_norm_eps", 1e-6}},
                                              .siglip = true});
  return spec;
}

}  // namespace deltaw

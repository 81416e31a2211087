// The attention of Stable Diffusion's UNet (Rombach et al. 2022, arXiv:2112.10752): transformer blocks over the pixels
// of a picture, which read a text too. Names as diffusers' Transformer2DModel has them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/loader.h"
#include "ops/group_norm.h"

namespace deltaw {

class SpatialTransformer {
 public:
  struct Form {
    int64_t channels = 0, heads = 1;
    int64_t cross_attention_dim = 0;  // the width of the text
    int64_t blocks = 1;
    int64_t norm_num_groups = 32;
    bool linear_projection = false;  // proj_in and proj_out are linear layers, and not convolutions of 1 x 1
  };
  SpatialTransformer(Loader& load, const std::string& name, const Form& form);

  /// x [batch, channels, rows, columns] and text [batch, tokens, cross_attention_dim] -> x's shape.
  Tensor operator()(const Tensor& x, const Tensor& text, Call& call) const;

 private:
  struct Attention {
    const Linear *to_q, *to_k, *to_v, *to_out;
  };
  struct Block {
    const Norm* norm1;
    Attention attn1;  // of pixels to pixels
    const Norm* norm2;
    Attention attn2;  // of pixels to the text
    const Norm* norm3;
    const Linear *feed_in, *feed_out;
  };

  Attention load_attention(Loader& load, const std::string& name, int64_t channels, int64_t read) const;
  Tensor mixed(std::vector<Tensor> parts, const Attention& attention, Call& call) const;
  Tensor run(const Block& block, const Tensor& x, const Tensor& text, Call& call) const;

  int64_t heads_;
  ops::GroupNorm norm_;
  const Linear *proj_in_, *proj_out_;  // or convolutions, which are the same over pixels
  std::vector<Block> blocks_;
};

}  // namespace deltaw

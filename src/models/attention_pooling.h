// One vector of many tokens, by attention from a learned query (multihead attention pooling of Zhai et al. 2022,
// arXiv:2106.04560; transformers' SiglipMultiheadAttentionPoolingHead).
#pragma once

#include <string>

#include "models/block.h"
#include "models/loader.h"

namespace deltaw {

class AttentionPooling {
 public:
  struct Form {
    int64_t width = 0, heads = 0;
    int64_t inner = 0;  // of its feed-forward pair
    std::string activation = "gelu";
    double eps = 1e-6;
  };
  /// `name`: of its module. Queries, keys and values are rows of one matrix, as in torch's MultiheadAttention.
  AttentionPooling(Loader& load, const std::string& name, const Form& form);

  /// [batch, tokens, width] -> [batch, width]
  Tensor operator()(const Tensor& tokens, Call& call) const;

 private:
  Form form_;
  const Parameter *probe_, *in_weight_, *in_bias_;
  const Linear* out_;
  const Norm* norm_;
  FeedForward feed_forward_;
};

}  // namespace deltaw

// Disentangled attention (He et al. 2021, arXiv:2006.03654, section 3.1): what a query and a key are, and how far they
// stand apart, are told by vectors of their own.
#pragma once

#include <ATen/ATen.h>

#include "ops/attention/attention.h"

namespace deltaw::ops {

/// Keys and queries of distances. Either may be undefined: such a term is left out.
struct DistanceVectors {
  at::Tensor keys;     // [vectors, heads, width]: met by the queries of the tokens ("c2p")
  at::Tensor queries;  // [vectors, heads, width]: met by the keys of the tokens ("p2c")
  /// Which vector is that of a distance: [2 * keys - 1] int64, that of key - query at key - query + keys - 1.
  at::Tensor vector_of;
};

/// softmax(scale (q_i k_j^T + q_i keys_d^T + k_j queries_d^T) + bias) v, d the vector of the distance from i to j; the
/// softmax in float32 at least. q [batch, heads, queries, width], its rows those of the first keys; k and v [batch,
/// heads, keys, width] -> [batch, heads, queries, width]. Of the scores nothing is kept for the backward pass.
at::Tensor disentangled_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const DistanceVectors& distances, const AttentionMask& mask,
                                  const AttentionForm& form, Call& call);

}  // namespace deltaw::ops

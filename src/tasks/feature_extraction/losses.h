// Losses of embeddings that are compared, as sentence-transformers names and defines them.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace deltaw::feature_extraction {

using at::Tensor;

inline constexpr const char* kRanking = "multiple_negatives_ranking";
inline constexpr const char* kCosine = "cosine_similarity";
inline constexpr const char* kCoSent = "cosent";

/// [n] of a, b [n, width].
Tensor cosines(const Tensor& a, const Tensor& b);

/// Cross entropy of scale x cosine of each anchor with all other texts of the rows, its own positive being right
/// (Henderson et al. 2017, arXiv:1705.00652). `texts` are anchors, positives and perhaps negatives, [n, width] each.
/// A mean over the rows.
Tensor ranking_loss(const std::vector<Tensor>& texts, double scale);

/// The mean square of what the cosines [n] differ from the scores [n] by.
Tensor cosine_loss(const Tensor& cosines, const Tensor& scores);

/// log(1 + sum of exp(scale (c_i - c_j))) over all pairs of rows where the score of j is the higher one (Su 2022,
/// https://kexue.fm/archives/8847). It needs [n, n] numbers.
Tensor cosent_loss(const Tensor& cosines, const Tensor& scores, double scale);

}  // namespace deltaw::feature_extraction

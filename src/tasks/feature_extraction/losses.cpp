#include "tasks/feature_extraction/losses.h"

#include <limits>

#include "tasks/common/losses.h"

namespace deltaw::feature_extraction {

Tensor cosines(const Tensor& a, const Tensor& b) {
  return (tasks::unit_rows(a) * tasks::unit_rows(b)).sum(1);
}

Tensor ranking_loss(const std::vector<Tensor>& texts, double scale) {
  const std::vector<Tensor> others(texts.begin() + 1, texts.end());
  const Tensor scores = tasks::unit_rows(texts.front()).mm(tasks::unit_rows(at::cat(others)).t()) * scale;
  return at::cross_entropy_loss(scores, at::arange(scores.size(0), at::kLong));
}

Tensor cosine_loss(const Tensor& cosines, const Tensor& scores) {
  return at::mse_loss(cosines, scores.to(cosines.scalar_type()));
}

Tensor cosent_loss(const Tensor& cosines, const Tensor& scores, double scale) {
  const Tensor differences = (cosines.unsqueeze(1) - cosines.unsqueeze(0)) * scale;
  const Tensor other = scores.unsqueeze(1).lt(scores.unsqueeze(0)).logical_not();
  const Tensor pairs = differences.masked_fill(other, -std::numeric_limits<double>::infinity()).flatten();
  return at::cat({at::zeros({1}, pairs.options()), pairs}).logsumexp(0);
}

}  // namespace deltaw::feature_extraction

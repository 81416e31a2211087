#include "tasks/contrastive_image_text/losses.h"

namespace deltaw::contrastive {
namespace {

Tensor cross_entropy(const Tensor& logits, const Tensor& right) {
  const Tensor share = right / right.sum(1, /*keepdim=*/true);
  return -(share * logits.log_softmax(1)).sum(1).mean();
}

Tensor equal_pairs(const Tensor& ids) {
  return ids.unsqueeze(1).eq(ids.unsqueeze(0)).to(at::kFloat);
}

}  // namespace

// Image i has caption j where some row k has the image of i and the caption of j.
Tensor positives(const Tensor& image_ids, const Tensor& caption_ids) {
  return equal_pairs(image_ids).mm(equal_pairs(caption_ids)).gt(0);
}

Tensor softmax_loss(const Tensor& logits, const Tensor& positives) {
  const Tensor right = positives.to(logits.scalar_type());
  return (cross_entropy(logits, right) + cross_entropy(logits.t(), right.t())) / 2;
}

Tensor sigmoid_loss(const Tensor& logits, const Tensor& positives) {
  const Tensor signs = positives.to(logits.scalar_type()) * 2 - 1;
  return -at::log_sigmoid(signs * logits).sum(1).mean();
}

}  // namespace deltaw::contrastive

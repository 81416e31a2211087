// The loss that never holds its logits, against the plain one.
#include "ops/cross_entropy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/golden.h"

namespace deltaw {
namespace {

using test::differs;

constexpr int64_t kManyChunks = int64_t{1} << 30;  // a vocabulary for which a chunk is as short as it gets

struct Problem {
  Tensor features, weight, bias, labels;

  Problem() {
    at::manual_seed(5);
    features = at::randn({70, 6}, at::kDouble).requires_grad_();
    weight = at::randn({11, 6}, at::kDouble).requires_grad_();
    bias = at::randn({11}, at::kDouble).requires_grad_();
    labels = at::randint(11, {70}, at::kLong);
  }
  ops::Head head() const {
    return [this](const Tensor& x) { return at::linear(x, weight, bias); };
  }
  /// Loss, then the gradients of all three.
  std::vector<Tensor> results(const Tensor& loss) {
    (loss * 3).backward();
    std::vector<Tensor> all{loss.detach()};
    for (Tensor* tensor : {&features, &weight, &bias}) {
      all.push_back(tensor->grad().defined() ? tensor->grad().clone() : Tensor());
      tensor->mutable_grad() = Tensor();
    }
    return all;
  }
};

TEST(ChunkedCrossEntropy, GivesTheLossAndTheGradientsOfThePlainOne) {
  Problem p;
  for (const double smoothing : {0.0, 0.1}) {
    const auto plain =
        p.results(at::cross_entropy_loss(p.head()(p.features), p.labels, {}, at::Reduction::Sum, -100, smoothing));
    const auto chunked = p.results(
        ops::chunked_cross_entropy(p.features, p.labels, kManyChunks, p.head(), {p.weight, p.bias}, smoothing));
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(differs(chunked[i], plain[i], 1e-12), "") << i;
  }
}

TEST(ChunkedCrossEntropy, LeavesAFrozenHeadAlone) {
  Problem p;
  const auto found = p.results(ops::chunked_cross_entropy(p.features, p.labels, kManyChunks, p.head(), {}));
  EXPECT_TRUE(found[1].defined());
  EXPECT_FALSE(found[2].defined());
  EXPECT_FALSE(found[3].defined());
}

TEST(ChunkedCrossEntropy, MayHaveTensorsThatTheHeadDoesNotReach) {
  Problem p;
  const Tensor apart = at::ones({2}, at::kDouble).requires_grad_();
  const Tensor loss = ops::chunked_cross_entropy(p.features, p.labels, kManyChunks, p.head(), {apart, p.weight});
  loss.backward();
  EXPECT_FALSE(apart.grad().defined());
  EXPECT_TRUE(p.weight.grad().defined());
}

TEST(TokenCrossEntropy, AddsUpToTheLoss) {
  Problem p;
  const Tensor each = ops::token_cross_entropy(p.features, p.labels, kManyChunks, p.head());
  const Tensor sum = at::cross_entropy_loss(p.head()(p.features), p.labels, {}, at::Reduction::Sum);
  EXPECT_EQ(each.numel(), 70);
  EXPECT_NEAR(each.sum().item<double>(), sum.item<double>(), 1e-10);
}

TEST(CausalLoss, ReadsTheNextLabelAndPassesOverThoseOfNoToken) {
  at::manual_seed(6);
  const Tensor logits = at::randn({2, 4, 5}, at::kDouble);
  const Tensor labels = at::tensor({0, 3, -100, 1, 4, -100, 2, -100}, at::kLong).view({2, 4});
  const Tensor scores = at::log_softmax(logits, -1);
  const double expected = -(scores[0][0][3] + scores[0][2][1] + scores[1][1][2]).item<double>() / 3;
  EXPECT_NEAR(ops::causal_loss(logits, labels).item<double>(), expected, 1e-12);
}

}  // namespace
}  // namespace deltaw

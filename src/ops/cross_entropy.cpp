#include "ops/cross_entropy.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace deltaw::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kNoLabel = -100;
constexpr int64_t kChunkElements = int64_t{1} << 23;  // logits at a time: 32 MiB in float32

Tensor widened(const Tensor& logits) {
  return logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
}

int64_t chunk_size(int64_t vocabulary) {
  return std::max<int64_t>(16, kChunkElements / std::max<int64_t>(1, vocabulary));
}

void add(Tensor& sum, const Tensor& part) {
  if (part.defined()) sum = sum.defined() ? sum + part : part;
}

struct Work {
  const Tensor& labels;
  int64_t chunk;
  const Head& head;
  double label_smoothing;
};

// Forward computes the gradients of every chunk while its logits are there; backward scales them.
class ChunkedCrossEntropy : public torch::autograd::Function<ChunkedCrossEntropy> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& features, at::TensorList trained, const Work* work) {
    const at::AutoGradMode grad(true);
    variable_list gradients(1 + trained.size());
    gradients[0] = at::empty_like(features);
    Tensor sum;
    for (int64_t begin = 0; begin < features.size(0); begin += work->chunk) {
      const int64_t count = std::min(work->chunk, features.size(0) - begin);
      variable_list inputs{features.narrow(0, begin, count).detach().requires_grad_()};
      inputs.insert(inputs.end(), trained.begin(), trained.end());
      const Tensor logits = widened(work->head(inputs[0]));
      const Tensor loss = at::cross_entropy_loss(logits, work->labels.narrow(0, begin, count), {}, at::Reduction::Sum,
                                                 kNoLabel, work->label_smoothing);
      const variable_list found = torch::autograd::grad({loss}, inputs, {}, /*retain_graph=*/false,
                                                        /*create_graph=*/false, /*allow_unused=*/true);
      gradients[0].narrow(0, begin, count).detach().copy_(found[0]);
      for (size_t i = 1; i < found.size(); ++i) add(gradients[i], found[i]);
      add(sum, loss.detach());
    }
    ctx->save_for_backward(gradients);
    return sum;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& upstream) {
    variable_list results = ctx->get_saved_variables();
    for (Tensor& gradient : results) {
      if (gradient.defined()) gradient = gradient * upstream[0].to(gradient.scalar_type());
    }
    results.emplace_back();  // the work is no tensor
    return results;
  }
};

}  // namespace

Tensor causal_loss(const Tensor& logits, const Tensor& token_labels) {
  const int64_t last = logits.size(1) - 1;
  return at::cross_entropy_loss(widened(logits.narrow(1, 0, last)).flatten(0, 1),
                                token_labels.narrow(1, 1, last).flatten(), {}, at::Reduction::Mean, kNoLabel);
}

Tensor chunked_cross_entropy(const Tensor& features, const Tensor& labels, int64_t vocabulary, const Head& head,
                             const std::vector<Tensor>& trained, double label_smoothing) {
  const Work work{labels, chunk_size(vocabulary), head, label_smoothing};
  return ChunkedCrossEntropy::apply(features, at::TensorList(trained), &work);
}

Tensor token_cross_entropy(const Tensor& features, const Tensor& labels, int64_t vocabulary, const Head& head) {
  std::vector<Tensor> losses;
  each_chunk(features, vocabulary, head, [&](int64_t begin, const Tensor& logits) {
    losses.push_back(at::cross_entropy_loss(logits, labels.narrow(0, begin, logits.size(0)), {}, at::Reduction::None));
  });
  return at::cat(losses);
}

void each_chunk(const Tensor& features, int64_t vocabulary, const Head& head,
                const std::function<void(int64_t begin, const Tensor& logits)>& use) {
  const at::NoGradGuard no_grad;
  const int64_t chunk = chunk_size(vocabulary);
  for (int64_t begin = 0; begin < features.size(0); begin += chunk) {
    const int64_t count = std::min(chunk, features.size(0) - begin);
    use(begin, widened(head(features.narrow(0, begin, count))));
  }
}

double chunk_bytes(int64_t vocabulary, double tokens) {
  constexpr double kCopies = 4;  // logits, their log probabilities, and the gradients of both
  const auto width = static_cast<double>(vocabulary);
  return kCopies * std::min(static_cast<double>(chunk_size(vocabulary)), tokens) * width * 4;
}

}  // namespace deltaw::ops

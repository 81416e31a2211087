#include "eval/sampling.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/mix_seed.h"
#include "deltaw/error.h"
#include "ops/host_read.h"

namespace deltaw::eval {
namespace {

constexpr double kRuledOut = -std::numeric_limits<double>::infinity();

Tensor keep_top_k(const Tensor& scores, int64_t k) {
  const Tensor least = std::get<0>(at::topk(scores, std::min(k, scores.size(0)))).min();
  return scores.masked_fill(scores < least, kRuledOut);
}

// The smallest set of the likeliest tokens that holds top_p of the probability: the rest together holds 1 - top_p.
Tensor keep_top_p(const Tensor& scores, double top_p) {
  const auto [rising, order] = at::sort(scores);
  Tensor out = rising.softmax(0).cumsum(0) <= 1 - top_p;
  out.narrow(0, out.size(0) - 1, 1).fill_(false);
  return scores.masked_fill(at::empty_like(out).scatter_(0, order, out), kRuledOut);
}

Tensor keep_min_p(const Tensor& scores, double min_p) {
  const Tensor probabilities = scores.softmax(0);
  return scores.masked_fill(probabilities < min_p * probabilities.max(), kRuledOut);
}

}  // namespace

Tensor penalised(const Tensor& scores, const std::vector<int64_t>& history, double penalty) {
  if (penalty == 1 || history.empty()) return scores;
  const Tensor ids = at::tensor(history, at::kLong);
  const Tensor said = scores.index_select(0, ids);
  return scores.scatter(0, ids, at::where(said < 0, said * penalty, said / penalty));
}

Tensor warped(const Tensor& scores, const GenerateOptions& options) {
  Tensor result = options.temperature == 1 ? scores : scores / options.temperature;
  if (options.top_k > 0) result = keep_top_k(result, options.top_k);
  if (options.top_p < 1) result = keep_top_p(result, options.top_p);
  if (options.min_p > 0) result = keep_min_p(result, options.min_p);
  return result;
}

Sampler::Sampler(const GenerateOptions& options, int64_t row)
    : options_(options),
      // Mixed, because torch's generator looks at the lower half of its seed alone.
      generator_(at::make_generator<at::CPUGeneratorImpl>(
          mix_seed(static_cast<uint64_t>(options.seed), static_cast<uint64_t>(row)))) {}

int64_t Sampler::next(const Tensor& logits, const std::vector<int64_t>& history) {
  const at::NoGradGuard no_grad;
  const Tensor scores = penalised(logits.to(at::kFloat), history, options_.repetition_penalty);
  if (!std::isfinite(ops::host_number(scores.max()))) {  // a nan among them is the greatest
    throw Error({.id = "numeric.non-finite",
                 .what = "the model's scores are not finite",
                 .where = "token " + std::to_string(history.size()),
                 .fix = "try --dtype float32; if it stays, the checkpoint or the adapter is broken"});
  }
  if (options_.temperature == 0) return ops::host_integer(scores.argmax());
  return ops::host_integer(at::multinomial(warped(scores, options_).softmax(0), 1, false, generator_));
}

}  // namespace deltaw::eval

// From scores to a token.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "deltaw/generate.h"

namespace deltaw::eval {

/// Scores of tokens that occur in `history` divided by the penalty where they are positive, multiplied where not
/// (Keskar et al. 2019, arXiv:1909.05858). scores [vocabulary] float32 -> the same.
at::Tensor penalised(const at::Tensor& scores, const std::vector<int64_t>& history, double penalty);

/// Scores over the temperature, then -inf for what top_k, top_p (Holtzman et al. 2020, arXiv:1904.09751) and min_p
/// (Nguyen et al. 2024, arXiv:2407.01082) rule out. One token at least is left. scores [vocabulary] float32 -> the
/// same.
at::Tensor warped(const at::Tensor& scores, const GenerateOptions& options);

/// Chooses the tokens of one row.
class Sampler {
 public:
  /// The same options and row draw the same.
  Sampler(const GenerateOptions& options, int64_t row);

  /// logits [vocabulary]; `history` holds the prompt and what was said. Throws numeric.non-finite.
  int64_t next(const at::Tensor& logits, const std::vector<int64_t>& history);

 private:
  GenerateOptions options_;
  at::Generator generator_;
};

}  // namespace deltaw::eval

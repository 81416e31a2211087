// What sums of losses say.
#pragma once

#include <string>
#include <vector>

#include "deltaw/options.h"
#include "deltaw/text_rows.h"
#include "ops/cross_entropy.h"

namespace deltaw::tasks {

/// Throws numeric.non-finite.
void check_finite(double loss, const std::string& where);

/// The same for the logits of a row of the data, counted from 0.
[[noreturn]] void refuse_logits(int64_t row);

/// Logits in float32 or wider, as losses take them.
Tensor wide(const Tensor& logits);

/// Each row scaled to length 1, as torch's normalize: a row of zeros stays one.
Tensor unit_rows(const Tensor& rows);

RowLoss sum_of(const std::vector<RowLoss>& rows);

/// The model's head as ops/cross_entropy calls it. `model` and `call` must outlive it.
ops::Head head_of(const Model& model, Call& call);

/// Every tensor that trains and may stand behind the head, each once: whatever the head is made of, and tied to.
std::vector<Tensor> trained_tensors(const Call& call);

/// Features [batch, length, hidden] of the positions before the tokens that are trained on: [n, hidden].
Tensor at_targets(const Tensor& features, const Batch& batch);

/// Those of `outputs` [rows, length, n] that are no padding: [tokens, n].
Tensor without_padding(const Tensor& outputs, const Batch& batch);

/// What a causal model makes of each row, by its position in the source.
class RowLosses {
 public:
  RowLosses(const Model& model, const Adapter* adapter, int64_t rows)
      : model_(model), adapter_(adapter), losses_(static_cast<size_t>(rows)) {}

  void add(const Tensor& features, const Batch& batch);
  /// Throws numeric.non-finite.
  const std::vector<RowLoss>& finite() const;

 private:
  const Model& model_;
  const Adapter* adapter_;
  std::vector<RowLoss> losses_;
};

/// {"loss", the mean of a token, "perplexity"}. Throws numeric.non-finite.
Json mean_loss(const RowLoss& sum, const std::string& where);

}  // namespace deltaw::tasks

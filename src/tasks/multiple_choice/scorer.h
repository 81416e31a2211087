// Losses and scores of choices.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/task.h"
#include "tasks/multiple_choice/rows.h"

namespace deltaw::multiple_choice {

/// The scores of texts [texts, 1] by rows: [rows, most choices], -inf where a row has fewer. A batch without choices is
/// rows of one each.
Tensor by_rows(const Tensor& logits, const Batch& batch);

/// The cross entropy of each row's own choices with the right one, summed over the rows. `smoothing`: the share of the
/// label that is spread over them.
Tensor summed_loss(const Tensor& logits, const Batch& batch, double smoothing);

class ChoiceScorer final : public Scorer {
 public:
  explicit ChoiceScorer(const ChoiceRows& rows) : rows_(rows), logits_(static_cast<size_t>(rows.size())) {}

  void add(const Outputs& outputs, const Batch& batch) override;
  /// {"loss", the mean of a row, "accuracy"}
  Json metrics() override;
  /// {"label": the choice as the file calls it, "text": ..., "scores": a probability for each}
  Json row(int64_t position) override;
  /// `logits` [rows, most choices], -inf where a row has fewer.
  std::vector<std::pair<std::string, Tensor>> tensors() override;

 private:
  /// Throws numeric.non-finite.
  const std::vector<float>& finite(int64_t row) const;

  const ChoiceRows& rows_;
  std::vector<std::vector<float>> logits_;  // of each row's choices
};

}  // namespace deltaw::multiple_choice

#include "tasks/feature_extraction/rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "core/hash.h"

namespace deltaw::feature_extraction {

TupleRows::TupleRows(std::vector<EncodedRow> texts, int64_t texts_of_a_row, std::vector<double> scores, int64_t pad_id,
                     bool pads_left)
    : texts_(std::move(texts), pad_id, pads_left), texts_of_a_row_(texts_of_a_row), scores_(std::move(scores)) {}

int64_t TupleRows::cost(int64_t row) const {
  int64_t tokens = 0;
  for (int64_t i = 0; i < texts_of_a_row_; ++i) tokens += texts_.cost(row * texts_of_a_row_ + i);
  return tokens;
}

std::string TupleRows::fingerprint() const {
  const std::string_view scores(reinterpret_cast<const char*>(scores_.data()), scores_.size() * sizeof(double));
  return fmt::format("{} by {}, scores {}", texts_.fingerprint(), texts_of_a_row_, xxh128(scores));
}

Batch TupleRows::collate(const std::vector<int64_t>& positions, const Draw& draw) const {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < texts_of_a_row_; ++i) {
    for (const int64_t row : positions) places.push_back(row * texts_of_a_row_ + i);
  }
  Batch batch = texts_.collate(places, draw);
  batch.tensors.erase("labels");
  batch.rows = static_cast<int64_t>(positions.size());
  batch.positions = positions;
  batch.costs.clear();
  std::vector<double> scores;
  for (const int64_t row : positions) {
    batch.costs.push_back(cost(row));
    if (!scores_.empty()) scores.push_back(scores_[static_cast<size_t>(row)]);
  }
  if (!scores.empty()) batch.tensors["scores"] = at::tensor(at::ArrayRef<double>(scores), at::kDouble);
  return batch;
}

}  // namespace deltaw::feature_extraction

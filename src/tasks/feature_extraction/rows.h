// Rows of several texts that are compared with each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltaw/text_rows.h"

namespace deltaw::feature_extraction {

/// A batch holds the n-th texts of all rows, then the (n+1)-th ones:
///
///   input_ids, attention_mask, token_type_ids   [texts x rows, length], as of TextRows
///   scores                                      [rows] float64, where the rows have them
class TupleRows final : public RowSource {
 public:
  static constexpr const char* kName = "TupleRows";
  /// `texts` of each row, row by row: [rows x texts]; `scores` of each row, or none.
  TupleRows(std::vector<EncodedRow> texts, int64_t texts_of_a_row, std::vector<double> scores, int64_t pad_id,
            bool pads_left);

  int64_t size() const override { return texts_.size() / texts_of_a_row_; }
  int64_t cost(int64_t row) const override;
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

  int64_t texts_of_a_row() const { return texts_of_a_row_; }
  /// All texts, those of a row one behind the other.
  const std::vector<EncodedRow>& texts() const { return texts_.rows(); }
  const std::vector<double>& scores() const { return scores_; }

 private:
  TextRows texts_;
  int64_t texts_of_a_row_;
  std::vector<double> scores_;
};

}  // namespace deltaw::feature_extraction

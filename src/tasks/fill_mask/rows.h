// Rows of tokens some of which are masked, anew in every epoch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deltaw/text_rows.h"
#include "tasks/fill_mask/masking.h"

namespace deltaw::fill_mask {

/// TextRows' batches with masks, and what is to be said of them: for each of the n chosen tokens
///
///   target_positions   [n] int64: its position in the flattened batch
///   target_labels      [n] int64: the token that stood there
///   target_rows        [n] int64: its row of the batch
///
/// `labels` [rows, length] says the same, kNoLabel elsewhere. The masks of a row follow from seed, epoch and the row:
/// any batch size draws the same ones, and so does a run that goes on.
class MaskedRows final : public TextRows {
 public:
  static constexpr const char* kName = "MaskedRows";
  /// `units` of each row.
  MaskedRows(std::vector<EncodedRow> rows, std::vector<Units> units, const Masking& masking, int64_t pad_id,
             bool pads_left);

  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;
  /// A batch in which the i-th row has the i-th of these.
  Batch with_masks(const std::vector<int64_t>& positions, const std::vector<std::vector<Replacement>>& chosen) const;

  std::vector<Replacement> masks_of(int64_t row, const Draw& draw) const;
  const std::vector<Units>& units() const { return units_; }
  const Masking& masking() const { return masking_; }

 private:
  std::vector<Units> units_;
  Masking masking_;
  bool pads_left_;
};

/// Every unit of every row in turn: a row for each, in which all of its tokens and no others are masked (Salazar et al.
/// 2020, arXiv:1910.14659).
class UnitsInTurn final : public RowSource {
 public:
  explicit UnitsInTurn(std::shared_ptr<const MaskedRows> rows);

  int64_t size() const override { return static_cast<int64_t>(turns_.size()); }
  int64_t cost(int64_t row) const override { return rows_->cost(turns_[static_cast<size_t>(row)].row); }
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

 private:
  struct Turn {
    int64_t row, unit;
  };
  std::shared_ptr<const MaskedRows> rows_;
  std::vector<Turn> turns_;
};

}  // namespace deltaw::fill_mask

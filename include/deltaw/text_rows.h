// Rows of tokens as batches, and what models make of them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/batch.h"
#include "deltaw/data.h"
#include "deltaw/model.h"
#include "deltaw/progress.h"

namespace deltaw {

/// Batches of rows padded to the longest of them:
///
///   input_ids, attention_mask, token_type_ids   [rows, length]; see ModelInput. No type ids where all are zero
///   labels                                      [rows] float64: class numbers or scores; [rows, classes] where rows
///                                               have several; or, where they have token labels, those: [rows, length]
///                                               int64, kNoLabel on padding
class TextRows : public RowSource {
 public:
  static constexpr const char* kName = "TextRows";
  TextRows(std::vector<EncodedRow> rows, int64_t pad_id, bool pads_left);

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t cost(int64_t row) const override { return static_cast<int64_t>(rows_[static_cast<size_t>(row)].ids.size()); }
  std::string fingerprint() const override;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;

  const std::vector<EncodedRow>& rows() const { return rows_; }

 protected:
  PaddedRows padded(const std::vector<int64_t>& positions) const;
  Batch as_batch(const PaddedRows& rows, const std::vector<int64_t>& positions) const;

 private:
  std::vector<EncodedRow> rows_;
  int64_t pad_id_;
  bool pads_left_;
};

/// The same for a causal model, with what it is to say of a batch: for each of the n tokens that are trained on
///
///   target_positions   [n] int64: the position before it in the flattened batch
///   target_labels      [n] int64: the token
///   target_rows        [n] int64: its row of the batch
///
/// The first token of a document has none before it.
class CausalRows final : public TextRows {
 public:
  static constexpr const char* kName = "CausalRows";
  using TextRows::TextRows;
  Batch collate(const std::vector<int64_t>& positions, const Draw& draw) const override;
};

/// The number of a row's tokens that a causal model is trained on.
int64_t trained_tokens(const EncodedRow& row);

/// What a text model reads of a batch.
ModelInput text_input(const Batch& batch);

/// Throws data.token-id, data.token-type and data.too-long for rows that the model has no embeddings for. `adapter` may
/// be null.
void check_text(const Model& model, const Adapter* adapter, const TextRows& rows);

/// `count` rows of `length` tokens of the model's vocabulary, padding left out.
std::vector<EncodedRow> random_texts(const Model& model, int64_t count, int64_t length, uint64_t seed);

[[noreturn]] void refuse_source(const char* wanted);

/// The rows of a source as text. Throws data.other-rows where it is of another kind than `Rows`.
template <class Rows>
const Rows& as_rows(const RowSource& source) {
  if (const auto* rows = dynamic_cast<const Rows*>(&source)) return *rows;
  refuse_source(Rows::kName);
}

/// Logits of every row of a classifier in the rows' order: [rows, labels] float32. Throws data.token-id,
/// data.token-type and data.too-long for rows that the model has no embeddings for.
Tensor predict_logits(const Model& model, const Adapter* adapter, const TextRows& rows, int64_t batch_size,
                      const Progress& progress = {});

/// What a causal model makes of the tokens of a row that are trained on.
struct RowLoss {
  double nll = 0;  // negative log-likelihood of all of them, in nats
  int64_t tokens = 0;
};
/// In the rows' order. Throws as predict_logits.
std::vector<RowLoss> predict_losses(const Model& model, const Adapter* adapter, const CausalRows& rows,
                                    int64_t batch_size, const Progress& progress = {});

}  // namespace deltaw

#include "tasks/causal_lm/predictions.h"

#include <ATen/ATen.h>

#include <optional>

#include "deltaw/text_rows.h"

namespace deltaw::causal_lm {
namespace {

class TextPredictions final : public Predictions {
 public:
  TextPredictions(const AskedModel& asked, TextDataset texts, std::vector<EncodedRow> rows, int64_t pad_id,
                  bool pads_left)
      : asked_(asked), texts_(std::move(texts)), rows_(std::move(rows)), pad_id_(pad_id), pads_left_(pads_left) {}

  int64_t size() const override { return static_cast<int64_t>(texts_.ids.size()); }
  Json id(int64_t row) const override { return texts_.ids[static_cast<size_t>(row)]; }

  Json row(int64_t row) override {
    if (!losses_) losses_ = losses();
    const RowLoss& loss = (*losses_)[static_cast<size_t>(row)];
    return {{"nll", loss.tokens > 0 ? Json(loss.nll) : Json()}, {"tokens", loss.tokens}};
  }

  /// logits.<record> [tokens, vocabulary] of each row that has tokens, from 0.
  std::vector<std::pair<std::string, Tensor>> tensors() override {
    const at::NoGradGuard no_grad;
    const TextRows source(rows_, pad_id_, /*pads_left=*/false);
    std::vector<std::pair<std::string, Tensor>> logits;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].ids.empty()) continue;
      Call call{.adapter = asked_.adapter};
      const ModelInput input = text_input(source.collate({static_cast<int64_t>(i)}, {}));
      logits.emplace_back("logits." + std::to_string(texts_.rows[i].record - 1),
                          asked_.model.forward(input, call)[0].to(at::kFloat).contiguous());
    }
    return logits;
  }

 private:
  /// Of each of the file's rows, whether it says anything or not.
  std::vector<RowLoss> losses() const {
    std::vector<EncodedRow> scored;
    std::vector<int64_t> records;
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (trained_tokens(rows_[i]) == 0) continue;
      scored.push_back(rows_[i]);
      records.push_back(texts_.rows[i].record);
    }
    const CausalRows source(std::move(scored), pad_id_, pads_left_);
    const std::vector<RowLoss> losses =
        predict_losses(asked_.model, asked_.adapter, source, asked_.batch_size, asked_.progress);
    std::vector<RowLoss> all(texts_.ids.size());
    for (size_t i = 0; i < losses.size(); ++i) all[static_cast<size_t>(records[i] - 1)] = losses[i];
    return all;
  }

  AskedModel asked_;
  TextDataset texts_;
  std::vector<EncodedRow> rows_;
  int64_t pad_id_;
  bool pads_left_;
  std::optional<std::vector<RowLoss>> losses_;
};

}  // namespace

std::unique_ptr<Predictions> predictions_of(const AskedModel& asked, TextDataset texts, std::vector<EncodedRow> rows,
                                            int64_t pad_id, bool pads_left) {
  return std::make_unique<TextPredictions>(asked, std::move(texts), std::move(rows), pad_id, pads_left);
}

}  // namespace deltaw::causal_lm

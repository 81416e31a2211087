// Masked language modelling: the tokens that a mask hides (Devlin et al. 2018, arXiv:1810.04805).
//
//   loss   cross entropy of the logits at each chosen token; every one of a step weighs the same
//   scores the mean loss of a chosen token, perplexity, and the share of them that the model puts first
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "deltaw/error.h"
#include "deltaw/task.h"
#include "ops/cross_entropy.h"
#include "ops/host_read.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "tasks/fill_mask/reader.h"
#include "tasks/fill_mask/rows.h"

namespace deltaw {
namespace {

using fill_mask::MaskedRows;

class TokenScorer final : public Scorer {
 public:
  TokenScorer(const Model& model, const Adapter* adapter) : model_(model), adapter_(adapter) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    Call call{.adapter = adapter_};
    const Tensor& labels = batch["target_labels"];
    ops::each_chunk(tasks::at_targets(outputs.at(0), batch), model_.vocab_size(), tasks::head_of(model_, call),
                    [&](int64_t begin, const Tensor& logits) {
                      const Tensor own = labels.narrow(0, begin, logits.size(0));
                      const Tensor losses = at::cross_entropy_loss(logits, own, {}, at::Reduction::None);
                      check_finite(losses, begin, batch);
                      sum_.nll += ops::host_number(losses.to(at::kDouble).sum());
                      sum_.tokens += logits.size(0);
                      right_ += ops::host_integer(logits.argmax(1).eq(own).sum());
                    });
  }

  Json metrics() override {
    Json scores = tasks::mean_loss(sum_, "the logits of the validation rows");
    scores["accuracy"] = static_cast<double>(right_) / static_cast<double>(sum_.tokens);
    scores["tokens"] = sum_.tokens;
    return scores;
  }

 private:
  static void check_finite(const Tensor& losses, int64_t begin, const Batch& batch) {
    const Tensor bad = losses.isfinite().logical_not();
    if (!ops::host_flag(bad.any())) return;
    const int64_t token = begin + ops::host_integer(bad.to(at::kInt).argmax());
    const auto row = static_cast<size_t>(ops::host_integer(batch["target_rows"][token]));
    tasks::refuse_logits(batch.positions[row]);
  }

  const Model& model_;
  const Adapter* adapter_;
  RowLoss sum_;  // of all rows
  int64_t right_ = 0;
};

class FillMask final : public Task {
 public:
  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    const auto& rows = as_rows<MaskedRows>(source);
    tasks::check_rows(model, adapter, rows.rows());
    tasks::check_ids(model, {rows.masking().mask_id, rows.masking().vocabulary - 1}, "the mask token and random ones");
    for (size_t i = 0; i < rows.rows().size(); ++i) {
      if (rows.units()[i].size() == rows.rows()[i].ids.size() && fill_mask::count_units(rows.units()[i]) > 0) continue;
      throw Error({.id = "data.no-label",
                   .what = "no token of the row may be masked",
                   .where = fmt::format("{} row {}", split, rows.rows()[i].index),
                   .fix = "raise max_length, or leave the row out"});
    }
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t length,
                                         uint64_t seed) const override {
    std::vector<EncodedRow> rows = random_texts(model, count, length, seed);
    std::vector<fill_mask::Units> units(rows.size());
    for (fill_mask::Units& own : units) {
      for (int64_t i = 0; i < length; ++i) own.push_back(i);
    }
    const int64_t mask_id = count > 0 && length > 0 ? rows[0].ids[0] : 0;  // any token but padding
    return std::make_unique<MaskedRows>(std::move(rows), std::move(units),
                                        fill_mask::Masking{.mask_id = mask_id, .vocabulary = model.vocab_size()},
                                        /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {features [batch, length, hidden]}: logits are never kept, and made of chosen tokens only.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {model.features(text_input(batch), call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch["target_labels"].numel()); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& call,
              const LossScale& scale) const override {
    const Tensor features = tasks::at_targets(outputs.at(0), batch);
    const Tensor& labels = batch["target_labels"];
    if (call.observer) {  // sees the head once, and its gradient whole
      const Tensor logits = model.logits(features, call);
      const Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
      return at::cross_entropy_loss(wide, labels, {}, at::Reduction::Sum) / scale.total_weight;
    }
    const Tensor sum = ops::chunked_cross_entropy(features, labels, model.vocab_size(), tasks::head_of(model, call),
                                                  tasks::trained_tensors(call), scale.label_smoothing);
    return sum / scale.total_weight;
  }

  bool smooths_labels(const Model& /*model*/) const override { return true; }

  double chance_loss(const Model& model, const RowSource& /*rows*/) const override {
    return std::log(static_cast<double>(model.vocab_size()));
  }

  double loss_bytes(const Model& model, double tokens) const override {
    return ops::chunk_bytes(model.vocab_size(), fill_mask::MaskingOptions().mlm_probability * tokens);
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return fill_mask::metric_names(); }

  void check_metric(const Model& /*model*/, const std::string& name) const override { fill_mask::check_metric(name); }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* adapter, const RowSource& /*rows*/,
                                 std::vector<std::string> /*metrics*/) const override {
    return std::make_unique<TokenScorer>(model, adapter);
  }

  /// Logits of all tokens.
  Tensor comparable(const Model& model, const Outputs& outputs, const Batch& batch, Call& call) const override {
    return tasks::without_padding(model.logits(outputs.at(0), call), batch).to(at::kDouble);
  }
};

}  // namespace

const TaskSpec& task_fill_mask() {
  static const TaskSpec spec{
      .id = "fill-mask",
      .title = "masked language modelling",
      .make = [] { return std::make_unique<FillMask>(); },
      .reader = fill_mask::make_reader,
      .max_length = fill_mask::kMaxLength,
      .words = {
          .model = "masked language model",
          .models = "masked language models",
          .keys = "Masked language models",
          .evaluation_keys = "Masked language models",
          .prediction_keys = "Masked language models",
          .evaluates = "a masked language model by the tokens that it finds behind masks",
          .predicts =
              "{\"row\": ..., \"predictions\": [{\"score\": ..., \"token\": id, \"token_str\": ..., \"sequence\": "
              "...}, "
              "...]} for a masked language model: the likeliest tokens for the mask of a text, a list of such lists "
              "where it has several, and \"error\" in their place where it has none",
          .tensors =
              "`logits.<n>` [masks, vocabulary] of a masked language model, where n is the number of the row, from 0; "
              "a row without masks has none"}};
  return spec;
}

}  // namespace deltaw

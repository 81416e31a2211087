// Causal language modelling: the next token of a text.
//
//   loss   cross entropy of the logits before each token that is trained on; every one of a step weighs the same
//   scores the mean loss of a token, and perplexity
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "ops/cross_entropy.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"

namespace deltaw {
namespace {

ops::Head head_of(const Model& model, Call& call) {
  return [&model, &call](const Tensor& features) { return model.logits(features, call); };
}

/// What an adapter trains of the head.
std::vector<Tensor> trained_head(const Model& model, const Adapter* adapter) {
  std::vector<Tensor> trained;
  if (!adapter) return trained;
  const auto add = [&](const Tensor& tensor) {
    if (tensor.defined() && tensor.requires_grad()) trained.push_back(tensor);
  };
  const Layer& head = *model.head_layer();
  if (const AdaptedLayer* adapted = adapter->layer(head)) {
    for (const Param& param : adapted->params.all()) add(param.value);
  }
  add(adapter->value(head.weight));
  if (const TrainedTokens* tokens = adapter->tokens(head.weight)) add(tokens->rows);
  add(adapter->value(head.bias));
  return trained;
}

/// Features [batch, length, hidden] of the positions before the tokens that are trained on: [n, hidden].
Tensor at_targets(const Outputs& outputs, const Batch& batch) {
  return outputs.at(0).flatten(0, 1).index_select(0, batch["target_positions"]);
}

/// The losses of each row, by position.
class LossScorer final : public Scorer {
 public:
  LossScorer(const Model& model, const Adapter* adapter, int64_t rows)
      : model_(model), adapter_(adapter), losses_(static_cast<size_t>(rows)) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    Call call{.adapter = adapter_};
    const Tensor losses = ops::token_cross_entropy(at_targets(outputs, batch), batch["target_labels"],
                                                   model_.vocab_size(), head_of(model_, call))
                              .to(at::kDouble);
    const auto* rows = batch["target_rows"].data_ptr<int64_t>();
    for (int64_t i = 0; i < losses.numel(); ++i) {
      RowLoss& row = losses_[static_cast<size_t>(batch.positions[static_cast<size_t>(rows[i])])];
      row.nll += losses.data_ptr<double>()[i];
      row.tokens += 1;
    }
  }

  const std::vector<RowLoss>& losses() const {
    for (size_t row = 0; row < losses_.size(); ++row) {
      if (std::isfinite(losses_[row].nll)) continue;
      throw Error({.id = "numeric.non-finite",
                   .what = "the model's logits are not finite",
                   .where = fmt::format("row {} of the data", row + 1),
                   .fix = "compute with --dtype float32; if that is no help, the weights themselves are broken"});
    }
    return losses_;
  }

  Json metrics() override { return tasks::mean_loss(tasks::sum_of(losses()), "the logits of the validation rows"); }

 private:
  const Model& model_;
  const Adapter* adapter_;
  std::vector<RowLoss> losses_;
};

class CausalLm final : public Task {
 public:
  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    const std::vector<EncodedRow>& rows = as_rows<CausalRows>(source).rows();
    tasks::check_rows(model, adapter, rows);
    for (const EncodedRow& row : rows) {
      if (trained_tokens(row) > 0 && row.token_labels.size() == row.ids.size()) continue;
      throw Error({.id = "data.no-label",
                   .what = "no token of the row is trained on",
                   .where = fmt::format("{} row {}", split, row.index),
                   .fix = "raise max_length, or leave the row out"});
    }
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t length,
                                         uint64_t seed) const override {
    std::vector<EncodedRow> rows = random_texts(model, count, length, seed);
    for (EncodedRow& row : rows) row.token_labels = row.ids;
    return std::make_unique<CausalRows>(std::move(rows), /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {features [batch, length, hidden]}: logits are never kept.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {model.features(text_input(batch), call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch["target_labels"].numel()); }

  Tensor loss(const Model& model, const Outputs& outputs, const Batch& batch, Call& call,
              const LossScale& scale) const override {
    if (call.observer) {  // sees the head once, and its gradient whole
      const Tensor mean = ops::causal_loss(model.logits(outputs.at(0), call), batch["labels"]);
      const double batches = scale.total_weight / weight(batch);
      return batches == 1 ? mean : mean / batches;
    }
    const Tensor sum =
        ops::chunked_cross_entropy(at_targets(outputs, batch), batch["target_labels"], model.vocab_size(),
                                   head_of(model, call), trained_head(model, call.adapter), scale.label_smoothing);
    return sum / scale.total_weight;
  }

  bool smooths_labels(const Model& /*model*/) const override { return true; }

  double chance_loss(const Model& model, const RowSource& /*rows*/) const override {
    return std::log(static_cast<double>(model.vocab_size()));
  }

  double loss_bytes(const Model& model, double tokens) const override {
    // ops/cross_entropy: so many logits at a time; with them their log probabilities and the gradients of both.
    constexpr double kLogitsAtATime = double{1 << 23}, kCopies = 4;
    const auto vocabulary = static_cast<double>(model.vocab_size());
    return kCopies * std::min(std::max(kLogitsAtATime, 16 * vocabulary), tokens * vocabulary) * 4;
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return {"loss"}; }

  void check_metric(const Model& /*model*/, const std::string& name) const override {
    tasks::check_causal_metric(name);
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* adapter, const RowSource& rows,
                                 std::vector<std::string> /*metrics*/) const override {
    return std::make_unique<LossScorer>(model, adapter, rows.size());
  }

  /// Logits of all tokens.
  Tensor comparable(const Model& model, const Outputs& outputs, const Batch& batch, Call& call) const override {
    return model.logits(outputs.at(0), call).to(at::kDouble).index({batch["attention_mask"].ne(0)});
  }
};

}  // namespace

const TaskSpec& task_causal_lm() {
  static const TaskSpec spec{
      .id = "CAUSAL_LM", .title = "causal language modelling", .make = [] { return std::make_unique<CausalLm>(); }};
  return spec;
}

std::vector<RowLoss> predict_losses(const Model& model, const Adapter* adapter, const CausalRows& rows,
                                    int64_t batch_size, const Progress& progress) {
  tasks::check_rows(model, adapter, rows.rows());
  LossScorer scorer(model, adapter, rows.size());
  score(CausalLm(), model, adapter, rows, batch_size, scorer, progress);
  return scorer.losses();
}

}  // namespace deltaw

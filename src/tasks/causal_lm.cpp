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
#include "tasks/causal_lm/reader.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"

namespace deltaw {
namespace {

/// What an adapter trains of the head.
std::vector<Tensor> trained_head(const Model& model, const ActiveUpdates* adapter) {
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

class LossScorer final : public Scorer {
 public:
  LossScorer(const Model& model, const Adapter* adapter, int64_t rows) : losses_(model, adapter, rows) {}

  void add(const Outputs& outputs, const Batch& batch) override { losses_.add(outputs.at(0), batch); }
  Json metrics() override {
    return tasks::mean_loss(tasks::sum_of(losses_.finite()), "the logits of the validation rows");
  }

 private:
  tasks::RowLosses losses_;
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
    const Tensor sum = ops::chunked_cross_entropy(tasks::at_targets(outputs.at(0), batch), batch["target_labels"],
                                                  model.vocab_size(), tasks::head_of(model, call),
                                                  trained_head(model, call.adapter), scale.label_smoothing);
    return sum / scale.total_weight;
  }

  bool smooths_labels(const Model& /*model*/) const override { return true; }

  double chance_loss(const Model& model, const RowSource& /*rows*/) const override {
    return std::log(static_cast<double>(model.vocab_size()));
  }

  double loss_bytes(const Model& model, double tokens) const override {
    return ops::chunk_bytes(model.vocab_size(), tokens);
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return {"loss"}; }

  void check_metric(const Model& /*model*/, const std::string& name) const override { causal_lm::check_metric(name); }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* adapter, const RowSource& rows,
                                 std::vector<std::string> /*metrics*/) const override {
    return std::make_unique<LossScorer>(model, adapter, rows.size());
  }

  /// Logits of all tokens.
  Tensor comparable(const Model& model, const Outputs& outputs, const Batch& batch, Call& call) const override {
    return tasks::without_padding(model.logits(outputs.at(0), call), batch).to(at::kDouble);
  }
};

}  // namespace

const TaskSpec& task_causal_lm() {
  static const TaskSpec spec{
      .id = "CAUSAL_LM",
      .title = "causal language modelling",
      .make = [] { return std::make_unique<CausalLm>(); },
      .reader = causal_lm::make_reader,
      .max_length = causal_lm::kMaxLength,
      .words = {
          .model = "causal language model",
          .models = "language models",
          .keys = "Text for language models",
          .evaluation_keys = "Language models",
          .evaluates =
              "a causal language model by perplexity, by the likelihood of choices, or by the answers it writes",
          .predicts =
              "{\"row\": ..., \"nll\": ..., \"tokens\": ...} for a causal language model: the negative log-likelihood "
              "of the row in nats and the number of tokens it is summed over, null and 0 where a row has no token with "
              "another before it",
          .tensors =
              "`logits.<n>` [tokens, vocabulary] of a causal language model, where n is the number of the row, from 0; "
              "a row without tokens has none"}};
  return spec;
}

}  // namespace deltaw

// Token classification: one class a token, most often the tags of named entities.
//
//   loss    cross entropy of logits [rows, length, labels] with the labels of tokens, the mean over the labelled ones
//   scores  precision, recall and F1 of entities as seqeval counts them, accuracy of words
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "ops/host_read.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "tasks/token_cls/entities.h"
#include "tasks/token_cls/reader.h"
#include "tasks/token_cls/rows.h"

namespace deltaw {
namespace {

/// The positions of labelled tokens in the flattened batch: [n]. Batches of TextRows know them.
Tensor labelled(const Batch& batch) {
  const Tensor known = batch.get("target_positions");
  return known.defined() ? known : ops::host_places(batch["labels"].ne(kNoLabel));
}

void check_labels(const EncodedRow& row, int64_t classes, const std::string& where) {
  if (row.token_labels.size() != row.ids.size()) {
    throw Error(
        {.id = "data.label",
         .what = fmt::format("the row has {} tokens and labels for {}", row.ids.size(), row.token_labels.size()),
         .where = where,
         .fix = "give every token a label, kNoLabel where nothing is learned"});
  }
  for (const int64_t label : row.token_labels) {
    if (label == kNoLabel || (label >= 0 && label < classes)) continue;
    throw Error({.id = "data.label",
                 .what = fmt::format("label {} is not one of the model's classes 0 to {}", label, classes - 1),
                 .where = where,
                 .fix = "load the model with the labels of the data"});
  }
}

class TokenCls final : public Task {
 public:
  explicit TokenCls(std::string scheme) : scheme_(std::move(scheme)) {}

  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    const std::vector<EncodedRow>& rows = as_rows<TextRows>(source).rows();
    tasks::check_rows(model, adapter, rows);
    token_cls::check_scheme(scheme_, model.label_names());
    bool any = false;
    for (const EncodedRow& row : rows) {
      check_labels(row, model.num_labels(), fmt::format("{} row {}", split, row.index + 1));
      for (const int64_t label : row.token_labels) any = any || label != kNoLabel;
    }
    if (any || rows.empty()) return;
    throw Error({.id = "data.no-trained-tokens",
                 .what = "no token has a label",
                 .where = split + " rows",
                 .fix = "give the words of the rows tags, and see that the tokenizer makes tokens of them"});
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t length,
                                         uint64_t seed) const override {
    std::vector<EncodedRow> rows = random_texts(model, count, length, seed);
    std::mt19937_64 engine(mix_seed(seed, 1));
    for (EncodedRow& row : rows) {
      for (size_t i = 0; i < row.ids.size(); ++i) {
        row.token_labels.push_back(
            static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(model.num_labels()))));
      }
    }
    return std::make_unique<TextRows>(std::move(rows), /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {logits [rows, length, labels]}; those of padding are of no meaning.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {model.forward(text_input(batch), call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(labelled(batch).numel()); }

  Tensor loss(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    const Tensor tokens = labelled(batch);
    const Tensor logits = tasks::wide(outputs.at(0).flatten(0, 1).index_select(0, tokens));
    const Tensor labels = batch["labels"].flatten().index_select(0, tokens);
    return at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum, kNoLabel, scale.label_smoothing) /
           scale.total_weight;
  }

  bool smooths_labels(const Model& /*model*/) const override { return true; }

  double chance_loss(const Model& model, const RowSource& /*source*/) const override {
    return std::log(static_cast<double>(model.num_labels()));
  }

  double loss_bytes(const Model& model, double tokens) const override {
    constexpr double kCopies = 3, kBytes = 4;  // logits, their logarithms and the gradient, in float32
    return kCopies * kBytes * tokens * static_cast<double>(model.num_labels());
  }

  std::vector<std::string> metrics(const Model& model) const override {
    return token_cls::metric_names(model.label_names());
  }

  void check_metric(const Model& model, const std::string& name) const override {
    token_cls::check_metric(name, model.label_names());
  }

  std::unique_ptr<Scorer> scorer(const Model& model, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> metrics) const override {
    std::erase(metrics, "loss");
    return std::make_unique<token_cls::TokenScorer>(model, rows, scheme_, std::move(metrics));
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/) const override {
    return tasks::without_padding(outputs.at(0), batch).to(at::kDouble);
  }

 private:
  std::string scheme_;
};

}  // namespace

namespace token_cls {

std::unique_ptr<Task> make_task(const std::string& scheme) {
  return std::make_unique<TokenCls>(scheme);
}

}  // namespace token_cls

const TaskSpec& task_token_cls() {
  static const TaskSpec spec{
      .id = "TOKEN_CLS",
      .title = "token classification",
      .make = [] { return token_cls::make_task({}); },
      .reader = token_cls::make_reader,
      .words = {.model = "token classifier",
                .models = "token classifiers",
                .keys = "Token classifiers",
                .prediction_keys = "Token classifiers",
                .evaluates = "a token classifier by precision, recall and F1 of its entities",
                .predicts = "{\"row\": ..., \"entities\": [{\"entity_group\": ..., \"score\": ..., \"word\": ..., "
                            "\"start\": ..., \"end\": ...}]} of a token classifier",
                .tensors = "`logits.N` [tokens, labels] of a token classifier"}};
  return spec;
}

}  // namespace deltaw

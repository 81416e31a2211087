// Multiple choice: which of several texts goes with a question. A model scores one of them at a time.
//
//   loss   cross entropy of the scores of a row's own choices with the right one; every row of a step weighs the same
//   scores the share of rows whose right choice has the highest score
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "deltaw/task.h"
#include "ops/host_read.h"
#include "tasks/common/check_rows.h"
#include "tasks/multiple_choice/reader.h"
#include "tasks/multiple_choice/rows.h"
#include "tasks/multiple_choice/scorer.h"

namespace deltaw {
namespace {

using multiple_choice::ChoiceRows;

class MultipleChoice final : public Task {
 public:
  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    const auto& rows = as_rows<ChoiceRows>(source);
    tasks::check_rows(model, adapter, rows.texts());
    for (int64_t row = 0; row < rows.size(); ++row) {
      if (rows.label(row) >= 0 && rows.label(row) < rows.count(row)) continue;
      throw Error({.id = "data.label",
                   .what = fmt::format("label {} is none of the row's {} choices", rows.label(row), rows.count(row)),
                   .where = fmt::format("{} row {}", split, row + 1),
                   .fix = "give the number of the right choice, from 0"});
    }
  }

  /// Rows of four choices, which share the cost.
  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t cost,
                                         uint64_t seed) const override {
    const int64_t choices = std::clamp<int64_t>(cost, 1, kRandomChoices);
    multiple_choice::EncodedChoices encoded;
    std::vector<int64_t> labels;
    std::mt19937_64 engine(mix_seed(seed, 1));
    for (int64_t row = 0; row < count; ++row) {
      std::vector<EncodedRow> whole = random_texts(model, 1, cost, mix_seed(seed, row + 2));
      for (int64_t choice = 0; choice < choices; ++choice) {
        const auto at = [&](int64_t number) { return whole[0].ids.begin() + number * cost / choices; };
        encoded.texts.push_back({.ids = {at(choice), at(choice + 1)}, .index = row});
      }
      encoded.counts.push_back(choices);
      labels.push_back(static_cast<int64_t>(data::draw_below(engine, static_cast<uint64_t>(choices))));
    }
    return std::make_unique<ChoiceRows>(std::vector<multiple_choice::ChoiceQuestion>(), std::move(encoded),
                                        std::move(labels), /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {logits [rows, most choices]}, -inf where a row has fewer.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {multiple_choice::by_rows(model.forward(text_input(batch), call), batch)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    return multiple_choice::summed_loss(outputs.at(0), batch, scale.label_smoothing) / scale.total_weight;
  }

  bool smooths_labels(const Model& /*model*/) const override { return true; }

  double chance_loss(const Model& /*model*/, const RowSource& source) const override {
    const auto& rows = as_rows<ChoiceRows>(source);
    double sum = 0;
    for (int64_t row = 0; row < rows.size(); ++row) sum += std::log(static_cast<double>(rows.count(row)));
    return sum / static_cast<double>(std::max<int64_t>(1, rows.size()));
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return {"accuracy"}; }

  void check_metric(const Model& /*model*/, const std::string& name) const override {
    multiple_choice::check_metric(name);
  }

  std::unique_ptr<Scorer> scorer(const Model& /*model*/, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> /*metrics*/) const override {
    return std::make_unique<multiple_choice::ChoiceScorer>(as_rows<ChoiceRows>(rows));
  }

  /// The score of each choice: [texts, 1].
  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/) const override {
    const Tensor mask = batch.get("choice_mask"), logits = outputs.at(0).to(at::kDouble);
    return mask.defined() ? logits.flatten().index_select(0, ops::host_places(mask)).unsqueeze(1) : logits;
  }

 private:
  static constexpr int64_t kRandomChoices = 4;
};

}  // namespace

const TaskSpec& task_multiple_choice() {
  static const TaskSpec spec{
      .id = "multiple-choice",
      .title = "multiple choice",
      .make = [] { return std::make_unique<MultipleChoice>(); },
      .reader = multiple_choice::make_reader,
      .words = {.model = "multiple-choice model",
                .models = "multiple-choice models",
                .keys = "Multiple choice",
                .evaluates = "a multiple-choice model by its accuracy",
                .predicts = "{\"row\": ..., \"label\": ..., \"text\": ..., \"scores\": [...]} of a "
                            "multiple-choice model: the likeliest choice, and the probability of each",
                .tensors = "`logits` [rows, choices] of a multiple-choice model, -inf where a row has fewer"}};
  return spec;
}

}  // namespace deltaw

// Extractive question answering: where in a text the answer to a question starts and ends.
//
//   loss    the mean of the cross entropies of start and end over the tokens of a window, the mean over windows
//   scores  exact match and F1 of SQuAD's scripts
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/mix_seed.h"
#include "data/shuffle.h"
#include "deltaw/error.h"
#include "deltaw/task.h"
#include "deltaw/text_rows.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/losses.h"
#include "tasks/question_ans/reader.h"
#include "tasks/question_ans/scorer.h"

namespace deltaw {
namespace {

void check_places(const EncodedRow& row, const std::string& where) {
  const auto tokens = static_cast<double>(row.ids.size());
  const auto is_place = [&](double label) { return label >= 0 && label < tokens && label == std::floor(label); };
  if (row.labels.size() == 2 && is_place(row.labels[0]) && is_place(row.labels[1])) return;
  throw Error({.id = "data.label",
               .what = fmt::format("the labels of the row are not two of its {} tokens", row.ids.size()),
               .where = where,
               .fix = "give the tokens where the answer starts and ends, from 0; twice 0 where there is none"});
}

class QuestionAns final : public Task {
 public:
  explicit QuestionAns(const question_ans::AnswerOptions& options) : options_(options) {}

  void check(const Model& model, const Adapter* adapter, const RowSource& source,
             const std::string& split) const override {
    const std::vector<EncodedRow>& rows = as_rows<TextRows>(source).rows();
    tasks::check_rows(model, adapter, rows);
    for (size_t i = 0; i < rows.size(); ++i) check_places(rows[i], fmt::format("{} row {}", split, i + 1));
  }

  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t count, int64_t length,
                                         uint64_t seed) const override {
    std::vector<EncodedRow> rows = random_texts(model, count, length, seed);
    std::mt19937_64 engine(mix_seed(seed, 1));
    for (EncodedRow& row : rows) {
      const auto place = [&] { return static_cast<double>(data::draw_below(engine, row.ids.size())); };
      row.labels = {place(), place()};
    }
    return std::make_unique<TextRows>(std::move(rows), /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {logits [rows, length, 2]} of starts and ends; those of padding are of no meaning.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    return {model.forward(text_input(batch), call)};
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    return question_ans::summed_loss(outputs.at(0), batch) / scale.total_weight;
  }

  double chance_loss(const Model& /*model*/, const RowSource& rows) const override {
    double sum = 0;
    for (const int64_t length : costs_of(rows)) sum += std::log(static_cast<double>(length));
    return sum / static_cast<double>(std::max<int64_t>(1, rows.size()));
  }

  double loss_bytes(const Model& /*model*/, double tokens) const override {
    constexpr double kCopies = 3, kBytes = 4, kOutputs = 2;  // logits, their logarithms and the gradient, in float32
    return kCopies * kBytes * kOutputs * tokens;
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override {
    return question_ans::metric_names(options_);
  }

  void check_metric(const Model& /*model*/, const std::string& name) const override {
    question_ans::check_metric(name, options_);
  }

  std::unique_ptr<Scorer> scorer(const Model& /*model*/, const Adapter* /*adapter*/, const RowSource& rows,
                                 std::vector<std::string> /*metrics*/) const override {
    return std::make_unique<question_ans::AnswerScorer>(rows, options_);
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/) const override {
    return tasks::without_padding(outputs.at(0), batch).to(at::kDouble);
  }

 private:
  question_ans::AnswerOptions options_;
};

}  // namespace

namespace question_ans {

std::unique_ptr<Task> make_task(const AnswerOptions& options) {
  return std::make_unique<QuestionAns>(options);
}

}  // namespace question_ans

const TaskSpec& task_question_ans() {
  static const TaskSpec spec{
      .id = "QUESTION_ANS",
      .title = "question answering",
      .make = [] { return question_ans::make_task({}); },
      .reader = question_ans::make_reader,
      .max_length = 384,
      .words = {.model = "question answerer",
                .models = "question answerers",
                .keys = "Question answerers",
                .evaluates = "a question answerer by SQuAD's exact match and F1",
                .predicts = "{\"row\": ..., \"text\": ..., \"score\": ..., \"start\": ..., \"end\": ...} of a question "
                            "answerer",
                .tensors = "`logits.N.W` [tokens, 2] of starts and ends in each window of a question"}};
  return spec;
}

}  // namespace deltaw

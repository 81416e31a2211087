#include "tasks/question_ans/scorer.h"
#include "ops/host_read.h"
#include "tasks/common/shown.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tasks/common/losses.h"

namespace deltaw::question_ans {

Tensor first_tokens(const Batch& batch) {
  return batch["attention_mask"].ne(0).to(at::kByte).argmax(1);
}

Tensor summed_loss(const Tensor& logits, const Batch& batch) {
  const Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  const Tensor padding = batch["attention_mask"].eq(0).unsqueeze(-1).to(wide.device());
  const Tensor text = wide.masked_fill(padding, -std::numeric_limits<double>::infinity());
  const Tensor places = batch["labels"].to(at::kLong) + first_tokens(batch).unsqueeze(1).to(wide.device());
  const auto loss = [&](int64_t which) {
    return at::cross_entropy_loss(text.select(2, which), places.select(1, which), {}, at::Reduction::Sum);
  };
  return (loss(0) + loss(1)) / 2;
}

AnswerScorer::AnswerScorer(const RowSource& rows, const AnswerOptions& options)
    : rows_(dynamic_cast<const AnswerWindows*>(&rows)),
      options_(options),
      starts_(static_cast<size_t>(rows.size())),
      ends_(starts_.size()) {}

void AnswerScorer::add(const Outputs& outputs, const Batch& batch) {
  const Tensor logits = ops::host_copy(outputs.at(0).to(at::kFloat));
  loss_ += ops::host_number(summed_loss(outputs.at(0).to(at::kFloat), batch));
  seen_ += batch.rows;
  const std::vector<int64_t> first = ops::host_values<int64_t>(first_tokens(batch));
  for (int64_t i = 0; i < batch.rows; ++i) {
    const auto position = static_cast<size_t>(batch.positions[static_cast<size_t>(i)]);
    const Tensor own = logits[i].narrow(0, first[static_cast<size_t>(i)], batch.costs[static_cast<size_t>(i)]);
    starts_[position] = ops::host_values<float>(own.select(1, 0));
    ends_[position] = ops::host_values<float>(own.select(1, 1));
  }
}

std::pair<size_t, size_t> AnswerScorer::windows_of(int64_t question) const {
  const auto& windows = rows_->windows();
  const auto [begin, end] = std::equal_range(windows.begin(), windows.end(), Window{.question = question},
                                             [](const Window& a, const Window& b) { return a.question < b.question; });
  return {begin - windows.begin(), end - windows.begin()};
}

Said AnswerScorer::said(int64_t question) const {
  std::vector<WindowLogits> logits;
  const auto [begin, end] = windows_of(question);
  const auto finite = [](float value) { return std::isfinite(value); };
  for (size_t i = begin; i < end; ++i) {
    const auto &starts = starts_[i], &ends = ends_[i];
    if (!std::all_of(starts.begin(), starts.end(), finite) || !std::all_of(ends.begin(), ends.end(), finite)) {
      tasks::refuse_logits(question);
    }
    logits.push_back({.start = starts.data(),
                      .end = ends.data(),
                      .tokens = static_cast<int64_t>(starts.size()),
                      .window = rows_->windows()[i]});
  }
  return best_answer(logits, rows_->offsets()[static_cast<size_t>(question)], options_);
}

Json AnswerScorer::metrics() {
  const double loss = loss_ / static_cast<double>(seen_);
  tasks::check_finite(loss, "the logits of the validation rows");
  Json all = {{"loss", loss}};
  if (!rows_) return all;
  SquadScores scores;
  for (size_t i = 0; i < rows_->questions().size(); ++i) {
    const Question& question = rows_->questions()[i];
    const Said answer = said(static_cast<int64_t>(i));
    scores.add(tasks::slice(*question.context, answer.begin, answer.end), question.answers);
  }
  all.update(scores.metrics(options_.version_2_with_negative));
  return all;
}

Json AnswerScorer::answer(int64_t question) const {
  const Said answer = said(question);
  const std::string& context = *rows_->questions()[static_cast<size_t>(question)].context;
  Json line = {{"text", tasks::slice(context, answer.begin, answer.end)},
               {"score", answer.score},
               {"start", answer.begin},
               {"end", answer.end}};
  if (options_.version_2_with_negative) line["null_score_diff"] = answer.null_score_diff;
  return line;
}

Json AnswerScorer::row(int64_t position) {
  return rows_ ? answer(rows_->windows()[static_cast<size_t>(position)].question) : Json::object();
}

std::vector<std::pair<std::string, Tensor>> AnswerScorer::tensors() {
  std::vector<std::pair<std::string, Tensor>> all;
  if (!rows_) return all;
  for (size_t question = 0; question < rows_->questions().size(); ++question) {
    const auto [begin, end] = windows_of(static_cast<int64_t>(question));
    for (size_t i = begin; i < end; ++i) {
      const Tensor logits = at::empty({static_cast<int64_t>(starts_[i].size()), 2}, at::kFloat);
      auto* values = logits.mutable_data_ptr<float>();
      for (size_t token = 0; token < starts_[i].size(); ++token) {
        values[2 * token] = starts_[i][token];
        values[2 * token + 1] = ends_[i][token];
      }
      all.emplace_back(fmt::format("logits.{}.{}", question, i - begin), logits);
    }
  }
  return all;
}

namespace {

class AnswerPredictions final : public Predictions {
 public:
  AnswerPredictions(const AskedModel& asked, std::shared_ptr<const AnswerWindows> rows, const AnswerOptions& options)
      : rows_(std::move(rows)), scorer_(*rows_, options) {
    score(asked.task, asked.model, asked.adapter, *rows_, asked.batch_size, scorer_, asked.progress);
  }

  int64_t size() const override { return static_cast<int64_t>(rows_->questions().size()); }
  Json id(int64_t row) const override { return rows_->questions()[static_cast<size_t>(row)].id; }
  Json row(int64_t row) override { return scorer_.answer(row); }
  std::vector<std::pair<std::string, Tensor>> tensors() override { return scorer_.tensors(); }

 private:
  std::shared_ptr<const AnswerWindows> rows_;
  AnswerScorer scorer_;
};

}  // namespace

std::unique_ptr<Predictions> predictions_of(const AskedModel& asked, std::shared_ptr<const AnswerWindows> rows,
                                            const AnswerOptions& options) {
  return std::make_unique<AnswerPredictions>(asked, std::move(rows), options);
}

}  // namespace deltaw::question_ans

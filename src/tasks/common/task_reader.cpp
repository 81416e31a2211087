#include "deltaw/task_reader.h"

#include "deltaw/error.h"

namespace deltaw {
namespace {

[[noreturn]] void refuse(const char* what) {
  throw Error(
      {.id = "config.unsupported", .what = what, .where = "key \"task_type\"", .fix = "use a verb that the task has"});
}

/// What a scorer says of rows.
class ScoredRows final : public Predictions {
 public:
  ScoredRows(std::shared_ptr<const RowSource> rows, std::unique_ptr<Scorer> scorer, std::vector<Json> ids)
      : rows_(std::move(rows)), scorer_(std::move(scorer)), ids_(std::move(ids)) {}

  int64_t size() const override { return rows_->size(); }
  Json id(int64_t row) const override {
    return static_cast<size_t>(row) < ids_.size() ? ids_[static_cast<size_t>(row)] : Json();
  }
  Json row(int64_t row) override { return scorer_->row(row); }
  std::vector<std::pair<std::string, Tensor>> tensors() override { return scorer_->tensors(); }

 private:
  std::shared_ptr<const RowSource> rows_;
  std::unique_ptr<Scorer> scorer_;
  std::vector<Json> ids_;
};

std::unique_ptr<Scorer> scored(const AskedModel& asked, const RowSource& rows, std::vector<std::string> metrics) {
  std::unique_ptr<Scorer> scorer = asked.task.scorer(asked.model, asked.adapter, rows, std::move(metrics));
  score(asked.task, asked.model, asked.adapter, rows, asked.batch_size, *scorer, asked.progress);
  return scorer;
}

}  // namespace

std::vector<std::filesystem::path> TaskFiles::folders() const {
  if (adapters.empty()) return {base};
  return {adapters.front(), base};
}

std::shared_ptr<const RowSource> TaskReader::rows_to_score(const AskedModel& /*asked*/, TaskFiles& /*files*/) {
  refuse("the task has no scores of files");
}

std::shared_ptr<const RowSource> TaskReader::rows_to_predict(const AskedModel& /*asked*/, TaskFiles& /*files*/,
                                                             const std::string& /*file*/, std::vector<Json>& /*ids*/) {
  refuse("the task predicts nothing of files");
}

Json TaskReader::evaluate(const AskedModel& asked, TaskFiles& files) {
  validation_ = rows_to_score(asked, files);
  const Json scores = scored(asked, *validation_, metrics(files.data))->metrics();
  Json results = Json::object();
  for (const auto& [name, value] : scores.items()) results["eval_" + name] = value;
  results["eval_samples"] = validation_->size();
  if (const auto cut = cut_rows(Split::validation)) results["truncated_rows"] = *cut;
  results.update(this->results(Split::validation));
  return results;
}

std::unique_ptr<Predictions> TaskReader::predict(const AskedModel& asked, TaskFiles& files, const std::string& file) {
  std::vector<Json> ids;
  std::shared_ptr<const RowSource> rows = rows_to_predict(asked, files, file, ids);
  std::unique_ptr<Scorer> scorer = scored(asked, *rows, {});
  return std::make_unique<ScoredRows>(std::move(rows), std::move(scorer), std::move(ids));
}

Batch TaskReader::probe(const AskedModel& asked, const TaskFiles& files) const {
  constexpr int64_t kRows = 4, kCost = 16;
  const auto rows = asked.task.random_rows(asked.model, kRows, kCost, files.seed);
  return rows->collate({0, 1, 2, 3}, {});
}

}  // namespace deltaw

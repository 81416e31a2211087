// Sentence embeddings: one vector a text, near to those of texts that mean the same (Reimers and Gurevych 2019,
// arXiv:1908.10084).
//
//   rows   texts that belong together: a pair, a pair with negatives, a pair with a score
//   loss   that of tasks/feature_extraction/losses.h which the rows allow, over all rows of a step
//   scores correlations of cosines with scores, or how often the positive is the nearest text
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "deltaw/task.h"
#include "ops/host_read.h"
#include "tasks/common/check_rows.h"
#include "tasks/feature_extraction/losses.h"
#include "tasks/feature_extraction/reader.h"
#include "tasks/feature_extraction/rows.h"
#include "tasks/feature_extraction/scorer.h"
#include "tasks/feature_extraction/task.h"

namespace deltaw {
namespace feature_extraction {
namespace {

class FeatureExtraction final : public Task {
 public:
  explicit FeatureExtraction(Settings settings) : settings_(std::move(settings)) {}

  void check(const Model& model, const Adapter* adapter, const RowSource& rows,
             const std::string& /*split*/) const override {
    tasks::check_rows(model, adapter, as_rows<TupleRows>(rows).texts());
  }

  /// Pairs.
  std::unique_ptr<RowSource> random_rows(const Model& model, int64_t rows, int64_t cost, uint64_t seed) const override {
    const int64_t half = std::max<int64_t>(1, cost / 2);
    const std::vector<EncodedRow> first = random_texts(model, rows, std::max<int64_t>(1, cost - half), seed),
                                  second = random_texts(model, rows, half, seed + 1);
    std::vector<EncodedRow> texts;
    std::vector<double> scores;
    for (size_t i = 0; i < first.size(); ++i) {
      texts.push_back(first[i]);
      texts.push_back(second[i]);
      if (settings_.loss == kCosine || settings_.loss == kCoSent) scores.push_back(i % 2 == 0 ? 1 : 0);
    }
    return std::make_unique<TupleRows>(std::move(texts), 2, std::move(scores), /*pad_id=*/0, /*pads_left=*/false);
  }

  /// {embeddings of the first texts, of the second ones, ...}, [rows, hidden] each.
  Outputs outputs(const Model& model, const Batch& batch, Call& call) const override {
    const Tensor states = model.features(text_input(batch), call);
    const Tensor embeddings = embedding_of(states, batch["attention_mask"], settings_.modules);
    return embeddings.split(batch.rows);
  }

  double weight(const Batch& batch) const override { return static_cast<double>(batch.rows); }

  Tensor loss(const Model& /*model*/, const Outputs& outputs, const Batch& batch, Call& /*call*/,
              const LossScale& scale) const override {
    const Tensor scores = batch.get("scores");
    const std::string name = loss_of(scores.defined());
    if (name == kRanking) return ranking_loss(outputs, settings_.scale);
    const Tensor own = cosines(outputs.at(0), outputs.at(1));
    if (name == kCoSent) return cosent_loss(own, scores, settings_.scale);
    return cosine_loss(own, scores) * (weight(batch) / scale.total_weight);
  }

  bool compares_rows() const override { return settings_.loss != kCosine; }

  double chance_loss(const Model& /*model*/, const RowSource& source) const override {
    const auto& rows = as_rows<TupleRows>(source);
    const auto count = static_cast<double>(rows.size());
    const std::string name = loss_of(!rows.scores().empty());
    if (name == kRanking) return std::log(count * static_cast<double>(rows.texts_of_a_row() - 1));
    if (name == kCoSent) return std::log1p(count * (count - 1) / 2);
    const Tensor scores = at::tensor(at::ArrayRef<double>(rows.scores()), at::kDouble);
    return ops::host_number((scores - scores.mean()).square().mean());
  }

  std::vector<std::string> metrics(const Model& /*model*/) const override { return metric_names(settings_.scored); }

  void check_metric(const Model& /*model*/, const std::string& name) const override {
    feature_extraction::check_metric(name, settings_.scored);
  }

  std::unique_ptr<Scorer> scorer(const Model& /*model*/, const Adapter* /*adapter*/, const RowSource& source,
                                 std::vector<std::string> metrics) const override {
    const auto& rows = as_rows<TupleRows>(source);
    return make_scorer(rows, std::move(metrics), loss_of(!rows.scores().empty()), settings_.scale);
  }

  Tensor comparable(const Model& /*model*/, const Outputs& outputs, const Batch& /*batch*/,
                    Call& /*call*/) const override {
    return at::cat(outputs, 1).to(at::kDouble);
  }

 private:
  /// That which the rows allow: rows to validate with may be of another kind than those of training.
  std::string loss_of(bool scored) const {
    if (!scored) return kRanking;
    return settings_.loss == kCoSent ? kCoSent : kCosine;
  }

  Settings settings_;
};

}  // namespace

std::unique_ptr<Task> make_task(const Settings& settings) {
  return std::make_unique<FeatureExtraction>(settings);
}

}  // namespace feature_extraction

const TaskSpec& task_feature_extraction() {
  static const TaskSpec spec{
      .id = "FEATURE_EXTRACTION",
      .title = "sentence embeddings",
      .make = [] { return feature_extraction::make_task({}); },
      .reader = feature_extraction::make_reader,
      .max_length = feature_extraction::kMaxLength,
      .words = {.model = "sentence encoder",
                .models = "sentence encoders",
                .keys = "Sentence encoders",
                .evaluates = "a sentence encoder by the order of its cosines, or by the texts that find their partner",
                .predicts = "{\"row\": ..., \"norm\": ..., \"cosine\": of the row's two texts} for a sentence encoder",
                .tensors = "`embeddings` [rows, hidden] of a sentence encoder, and `embeddings_2` of second texts"}};
  return spec;
}

}  // namespace deltaw

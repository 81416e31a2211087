#include "tasks/feature_extraction/scorer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "deltaw/error.h"
#include "ops/host_read.h"
#include "tasks/common/losses.h"
#include "tasks/common/metrics.h"
#include "tasks/feature_extraction/losses.h"

namespace deltaw::feature_extraction {
namespace {

constexpr int64_t kBlock = 256;  // rows that are compared with all at once

/// The index of each row's own text among the candidates.
Tensor own_texts(int64_t begin, int64_t count) {
  return at::arange(begin, begin + count, at::kLong);
}

class EmbeddingScorer final : public Scorer {
 public:
  EmbeddingScorer(const TupleRows& rows, std::vector<std::string> metrics, std::string loss, double scale)
      : rows_(rows.size()),
        scores_(rows.scores()),
        metrics_(std::move(metrics)),
        loss_(std::move(loss)),
        scale_(scale),
        texts_(static_cast<size_t>(rows.texts_of_a_row())) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    const Tensor places = at::tensor(at::IntArrayRef(batch.positions), at::kLong);
    for (size_t i = 0; i < texts_.size(); ++i) {
      const Tensor own = outputs.at(i).detach();
      check_finite(own, batch);
      if (!texts_[i].defined()) texts_[i] = at::zeros({rows_, own.size(1)}, own.options());
      texts_[i].index_copy_(0, places, own);
    }
  }

  Json metrics() override {
    Json found = {{"loss", loss()}};
    for (const std::string& name : metrics_) {
      if (name == "loss") continue;
      const tasks::Score score = name == "accuracy" ? tasks::Score(accuracy()) : correlation(name);
      found[name] = score ? Json(*score) : Json();
    }
    return found;
  }

  /// {"norm": of the first text's embedding}, and the cosine of it with each other text of the row: a number, or a list
  /// where there are several.
  Json row(int64_t position) override {
    const Tensor first = texts_.at(0)[position];
    Json line = {{"norm", ops::host_number(first.norm())}};
    Json all = Json::array();
    for (size_t i = 1; i < texts_.size(); ++i) all.push_back(ops::host_number(own_cosines(i)[position]));
    if (!all.empty()) line["cosine"] = all.size() == 1 ? all[0] : all;
    return line;
  }

  /// `embeddings` of the first texts; of the others `embeddings_2`, ...
  std::vector<std::pair<std::string, Tensor>> tensors() override {
    std::vector<std::pair<std::string, Tensor>> all;
    for (size_t i = 0; i < texts_.size(); ++i) {
      if (!texts_[i].defined()) continue;
      all.emplace_back(i == 0 ? "embeddings" : fmt::format("embeddings_{}", i + 1), texts_[i].to(at::kFloat));
    }
    return all;
  }

 private:
  static void check_finite(const Tensor& embeddings, const Batch& batch) {
    const Tensor bad = embeddings.isfinite().all(1).logical_not();
    if (ops::host_flag(bad.any())) {
      tasks::refuse_logits(batch.positions[static_cast<size_t>(ops::host_integer(bad.to(at::kInt).argmax()))]);
    }
  }

  /// [rows], of the first text with the i-th.
  const Tensor& own_cosines(size_t i) {
    if (cosines_.empty()) cosines_.resize(texts_.size());
    if (!cosines_[i].defined()) cosines_[i] = cosines(texts_[0], texts_[i]);
    return cosines_[i];
  }

  /// Cosines of a block of anchors with all other texts, block by block: [block, rows x others].
  template <class Use>
  void each_block(size_t others, const Use& use) const {
    const Tensor anchors = tasks::unit_rows(texts_[0]);
    const Tensor all =
        tasks::unit_rows(
            at::cat(std::vector<Tensor>(texts_.begin() + 1, texts_.begin() + 1 + static_cast<std::ptrdiff_t>(others))))
            .t();
    for (int64_t begin = 0; begin < rows_; begin += kBlock) {
      const int64_t count = std::min(kBlock, rows_ - begin);
      use(begin, anchors.narrow(0, begin, count).mm(all));
    }
  }

  double ranking() const {
    double sum = 0;
    each_block(texts_.size() - 1, [&](int64_t begin, const Tensor& cosines) {
      const Tensor losses =
          at::cross_entropy_loss(cosines * scale_, own_texts(begin, cosines.size(0)), {}, at::Reduction::Sum);
      sum += ops::host_number(losses);
    });
    return sum / static_cast<double>(rows_);
  }

  /// log(1 + sum over pairs), a block of rows against all at a time.
  double cosent() {
    const Tensor all = own_cosines(1).to(at::kDouble), scores = score_tensor();
    Tensor sum = at::zeros({1}, at::kDouble);
    for (int64_t begin = 0; begin < rows_; begin += kBlock) {
      const int64_t count = std::min(kBlock, rows_ - begin);
      const Tensor differences = (all.narrow(0, begin, count).unsqueeze(1) - all.unsqueeze(0)) * scale_;
      const Tensor other = scores.narrow(0, begin, count).unsqueeze(1).ge(scores.unsqueeze(0));
      const Tensor pairs = differences.masked_fill(other, -std::numeric_limits<double>::infinity());
      sum = at::cat({sum, pairs.flatten()}).logsumexp(0).unsqueeze(0);
    }
    return ops::host_number(sum);
  }

  Tensor score_tensor() const { return at::tensor(at::ArrayRef<double>(scores_), at::kDouble); }

  /// Null where nothing is learned from such rows: single texts.
  Json loss() {
    if (texts_.size() < 2) return nullptr;
    if (loss_ == kRanking) return ranking();
    return loss_ == kCoSent ? cosent() : ops::host_number(cosine_loss(own_cosines(1).to(at::kDouble), score_tensor()));
  }

  double accuracy() {
    Tensor right;
    if (texts_.size() > 2) {
      right = at::ones({rows_}, at::kBool);
      for (size_t i = 2; i < texts_.size(); ++i) right = right.logical_and(own_cosines(1).gt(own_cosines(i)));
    } else {
      std::vector<Tensor> parts;
      each_block(1, [&](int64_t begin, const Tensor& cosines) {
        parts.push_back(cosines.argmax(1).eq(own_texts(begin, cosines.size(0))));
      });
      right = at::cat(parts);
    }
    return ops::host_number(right.to(at::kDouble).mean());
  }

  tasks::Score correlation(const std::string& name) {
    const tasks::Values predicted = ops::host_values<double>(own_cosines(1));
    return name == "pearson" ? tasks::pearson(predicted, scores_) : tasks::spearman(predicted, scores_);
  }

  int64_t rows_;
  std::vector<double> scores_;
  std::vector<std::string> metrics_;
  std::string loss_;
  double scale_;
  std::vector<Tensor> texts_;    // embeddings [rows, width] of the first texts, the second ones, ...
  std::vector<Tensor> cosines_;  // of the first with each of them
};

}  // namespace

std::vector<std::string> metric_names(bool scored) {
  if (scored) return {"spearmanr", "pearson"};
  return {"accuracy"};
}

void check_metric(const std::string& name, bool scored) {
  const std::vector<std::string> known = metric_names(scored);
  if (name == "loss" || std::find(known.begin(), known.end(), name) != known.end()) return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no metric of {}", name,
                                   scored ? "pairs of texts with scores" : "texts that belong together"),
               .where = "key \"metric_for_best_model\"",
               .fix = fmt::format("loss or {}", fmt::join(known, " or "))});
}

std::unique_ptr<Scorer> make_scorer(const TupleRows& rows, std::vector<std::string> metrics, const std::string& loss,
                                    double scale) {
  return std::make_unique<EmbeddingScorer>(rows, std::move(metrics), loss, scale);
}

}  // namespace deltaw::feature_extraction

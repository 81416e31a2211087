#include "tasks/common/image_scorer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/host_read.h"
#include "tasks/common/class_logits.h"
#include "tasks/common/metrics.h"

namespace deltaw::tasks {
namespace {

constexpr int64_t kTop = 5;
constexpr const char* kTopMetric = "top5_accuracy";

bool has_top(const LabelSet& labels) {
  return labels.one_class() && labels.outputs() > kTop;
}

class ImageScorer final : public Scorer {
 public:
  ImageScorer(const LabelSet& meaning, int64_t rows, std::vector<std::string> metrics, bool sigmoid)
      : meaning_(meaning),
        sigmoid_(sigmoid || meaning.multi_label),
        top_(std::erase(metrics, kTopMetric) > 0),
        labels_(static_cast<size_t>(rows)),
        logits_(meaning, rows, std::move(metrics)) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    logits_.add(outputs, batch);
    if (!top_) return;
    const std::vector<double> labels = ops::host_values<double>(batch["labels"]);
    for (size_t i = 0; i < labels.size(); ++i) labels_[static_cast<size_t>(batch.positions[i])] = labels[i];
  }

  Json metrics() override {
    Json all = logits_.metrics();
    if (!top_) return all;
    const Tensor best = std::get<1>(logits_.logits().topk(kTop, 1)).to(at::kDouble);
    const Tensor hits = best.eq(at::tensor(labels_, at::kDouble).unsqueeze(1)).any(1);
    all[kTopMetric] = ops::host_number(hits.to(at::kDouble).mean());
    return all;
  }

  Json row(int64_t position) override {
    Json row = logits_.row(position);
    if (meaning_.regression) return row;
    const Tensor logits = logits_.logits()[position].to(at::kDouble);
    const Tensor all = sigmoid_ ? logits.sigmoid() : logits.softmax(0);
    const auto [best, classes] = all.topk(std::min(kTop, meaning_.outputs()));
    const std::vector<double> scores = ops::host_values<double>(best);
    const std::vector<int64_t> places = ops::host_values<int64_t>(classes);
    row["scores"] = Json::array();
    for (size_t i = 0; i < scores.size(); ++i) {
      row["scores"].push_back({{"label", meaning_.names[static_cast<size_t>(places[i])]}, {"score", scores[i]}});
    }
    return row;
  }

  std::vector<std::pair<std::string, Tensor>> tensors() override { return logits_.tensors(); }

 private:
  LabelSet meaning_;
  bool sigmoid_, top_;
  std::vector<double> labels_;
  LogitScorer logits_;
};

}  // namespace

std::vector<std::string> image_metrics(const LabelSet& labels) {
  std::vector<std::string> names = metric_names({}, labels);
  if (has_top(labels)) names.emplace_back(kTopMetric);
  return names;
}

void check_image_metric(const std::string& name, const LabelSet& labels) {
  if (name != kTopMetric || !has_top(labels)) check_class_metric(name, labels);
}

std::unique_ptr<Scorer> image_scorer(const LabelSet& labels, int64_t rows, std::vector<std::string> metrics,
                                     bool sigmoid) {
  std::erase(metrics, "loss");
  return std::make_unique<ImageScorer>(labels, rows, std::move(metrics), sigmoid);
}

}  // namespace deltaw::tasks

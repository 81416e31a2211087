#include "tasks/noise/scorer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "deltaw/error.h"
#include "ops/host_read.h"
#include "tasks/noise/pictures.h"

namespace deltaw::noise {
namespace {

constexpr const char* kMetric = "noise_mse_";

class NoiseScorer final : public Scorer {
 public:
  NoiseScorer(std::shared_ptr<const NoiseScheduler> scheduler, double snr_gamma)
      : scheduler_(std::move(scheduler)), snr_gamma_(snr_gamma) {}

  void add(const Outputs& outputs, const Batch& batch) override {
    const Tensor errors = squared_errors(*scheduler_, outputs.at(0), batch);
    const Tensor& times = batch["timesteps"];
    const Tensor losses = snr_gamma_ > 0 ? errors * scheduler_->min_snr_weights(times, snr_gamma_) : errors;
    const std::vector<double> numbers = ops::host_values<double>(at::stack({errors, losses}).to(at::kDouble));
    const std::vector<int64_t> at_times = ops::host_values<int64_t>(times);
    for (size_t i = 0; i < at_times.size(); ++i) {
      const Row row{.position = batch.positions[i],
                    .time = at_times[i],
                    .error = numbers[i],
                    .loss = numbers[at_times.size() + i]};
      rows_.push_back(row);
    }
  }

  Json metrics() override {
    // Added in one order, whatever the batches were.
    std::sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) { return a.position < b.position; });
    struct Sum {
      double errors = 0;
      int64_t rows = 0;
    };
    std::map<int64_t, Sum> sums;
    double loss = 0;
    for (const Row& row : rows_) {
      loss += row.loss;
      sums[row.time].errors += row.error;
      ++sums[row.time].rows;
    }
    loss /= static_cast<double>(std::max<size_t>(1, rows_.size()));
    if (!std::isfinite(loss)) {
      throw Error({.id = "numeric.non-finite",
                   .what = "the loss is no number",
                   .where = "evaluation",
                   .fix = "train with a lower learning_rate, or load the model in float32"});
    }
    Json all = {{"loss", loss}};
    for (const auto& [time, sum] : sums) all[metric_name(time)] = sum.errors / static_cast<double>(sum.rows);
    return all;
  }

 private:
  struct Row {
    int64_t position, time;
    double error, loss;
  };

  std::shared_ptr<const NoiseScheduler> scheduler_;
  double snr_gamma_;
  std::vector<Row> rows_;
};

}  // namespace

std::string metric_name(int64_t timestep) {
  return kMetric + std::to_string(timestep);
}

void check_metric(const std::string& name) {
  const std::string time = name.starts_with(kMetric) ? name.substr(std::string(kMetric).size()) : "";
  const bool whole =
      !time.empty() && std::all_of(time.begin(), time.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (name == "loss" || whole) return;
  throw Error({.id = "config.unknown-metric",
               .what = fmt::format("'{}' is no score of a denoiser", name),
               .where = "key 'metric_for_best_model'",
               .fix = "loss, or noise_mse_ with one of eval_timesteps: noise_mse_500"});
}

Tensor squared_errors(const NoiseScheduler& scheduler, const Tensor& output, const Batch& batch) {
  const Tensor target = scheduler.target(clean_of(batch), batch["noise"], batch["timesteps"]);
  return (output.to(at::kFloat) - target).square().flatten(1).mean(1);
}

std::unique_ptr<Scorer> make_scorer(std::shared_ptr<const NoiseScheduler> scheduler, double snr_gamma) {
  return std::make_unique<NoiseScorer>(std::move(scheduler), snr_gamma);
}

}  // namespace deltaw::noise

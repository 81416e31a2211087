#include "train/trainer_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/progress.h"
#include "deltaw/error.h"
#include "ops/formed_weights.h"
#include "train/train_options.h"

namespace deltaw::train {

std::string TrainerInputs::chosen_metric() const {
  const std::string& asked = options.metric_for_best_model;
  if (!asked.empty()) return asked.starts_with("eval_") ? asked.substr(5) : asked;
  const std::vector<std::string> names = metrics.empty() ? task.metrics(model) : metrics;
  return names.empty() ? "loss" : names.front();
}

std::vector<std::string> TrainerInputs::metric_list() const {
  std::vector<std::string> names = metrics.empty() ? task.metrics(model) : metrics;
  const std::string chosen = chosen_metric();
  if (std::find(names.begin(), names.end(), chosen) == names.end()) names.push_back(chosen);
  return names;
}

void check_inputs(const TrainerInputs& inputs) {
  check_options(inputs.options, inputs.has_validation(), inputs.task.smooths_labels(inputs.model));
  if (!inputs.train || inputs.train->size() == 0) {
    throw Error({.id = "config.no-data",
                 .what = "there are no rows to train on",
                 .where = "the training data",
                 .fix = "give train_file, or task_name with dataset_dir"});
  }
  inputs.task.check(inputs.model, &inputs.adapter, *inputs.train, "training");
  if (inputs.validation) inputs.task.check(inputs.model, &inputs.adapter, *inputs.validation, "validation");
  // Before hours of training.
  for (const std::string& name : inputs.metric_list()) inputs.task.check_metric(inputs.model, name);
}

int64_t formed_bytes(const Adapter& adapter, const TrainOptions& options, const std::vector<int64_t>& costs) {
  if (costs.empty()) return 0;
  const int64_t tokens = options.per_device_train_batch_size * *std::max_element(costs.begin(), costs.end());
  return FormedWeights::bytes(adapter, tokens, options.gradient_accumulation_steps);
}

bool keeps_formed(int64_t formed_bytes, int64_t memory) {
  constexpr int64_t kShare = 8;
  return formed_bytes > 0 && formed_bytes <= memory / kShare;
}

Json evaluate(const TrainerInputs& inputs) {
  const auto begin = std::chrono::steady_clock::now();
  const int64_t batch_size = inputs.options.per_device_eval_batch_size;
  const auto scorer = inputs.task.scorer(inputs.model, &inputs.adapter, *inputs.validation, inputs.metric_list());
  score(inputs.task, inputs.model, &inputs.adapter, *inputs.validation, batch_size, *scorer);
  const Json scores = scorer->metrics();
  Json metrics = Json::object();
  for (const auto& [name, value] : scores.items()) metrics["eval_" + name] = value;
  const double seconds = seconds_since(begin);
  const auto rows = static_cast<double>(inputs.validation->size());
  metrics["eval_runtime"] = seconds;
  metrics["eval_samples_per_second"] = rows / seconds;
  metrics["eval_steps_per_second"] = std::ceil(rows / static_cast<double>(batch_size)) / seconds;
  return metrics;
}

}  // namespace deltaw::train

#include "train/setup.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/progress.h"
#include "deltaw/error.h"
#include "eval/metrics.h"
#include "eval/results.h"
#include "ops/formed_weights.h"
#include "train/batch_tensors.h"
#include "train/check_rows.h"
#include "train/options.h"

namespace deltaw::train {
namespace {

void check_tokens(const std::vector<EncodedRow>& rows, const char* split) {
  for (const EncodedRow& row : rows) {
    if (trained_tokens(row) > 0 && row.token_labels.size() == row.ids.size()) continue;
    throw Error({.id = "data.no-label",
                 .what = "no token of the row is trained on",
                 .where = fmt::format("{} row {}", split, row.index),
                 .fix = "raise max_length, or leave the row out"});
  }
}

void check_labels(const Setup& setup, const std::vector<EncodedRow>& rows, const char* split) {
  if (setup.model.is_causal()) return check_tokens(rows, split);
  if (setup.model.is_regression()) return;
  for (const EncodedRow& row : rows) {
    if (row.label >= 0 && row.label < static_cast<double>(setup.model.num_labels()) &&
        row.label == std::floor(row.label)) {
      continue;
    }
    throw Error({.id = "data.label",
                 .what = fmt::format("label {} is not one of the model's classes 0 to {}", row.label,
                                     setup.model.num_labels() - 1),
                 .where = fmt::format("{} row {}", split, row.index),
                 .fix = "load the model with the labels of the data"});
  }
}

std::vector<double> labels_of(const std::vector<EncodedRow>& rows) {
  std::vector<double> labels(rows.size());
  std::transform(rows.begin(), rows.end(), labels.begin(), [](const EncodedRow& row) { return row.label; });
  return labels;
}

/// The metrics to compute: those asked for and the one that chooses, less the loss.
std::vector<std::string> metric_list(const Setup& setup) {
  std::vector<std::string> names = setup.metrics;
  const std::string chosen = setup.chosen_metric();
  if (chosen != "loss" && std::find(names.begin(), names.end(), chosen) == names.end()) names.push_back(chosen);
  std::erase(names, "loss");
  return names;
}

constexpr const char* kLogits = "the logits of the validation rows";

/// Loss and scores of a classifier on the validation rows.
Json classifier_metrics(const Setup& setup) {
  const Tensor logits = predict_logits(setup.model, &setup.adapter, setup.validation,
                                       setup.options.per_device_eval_batch_size, setup.pad_id, setup.pads_left);
  const std::vector<double> labels = labels_of(setup.validation);
  const double loss = model_loss(setup.model, logits, to_labels(setup.model, labels)).item<double>();
  eval::check_finite(loss, kLogits);
  const Tensor wide = logits.to(at::kDouble).contiguous();
  const eval::Values values(wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel());
  const Json scores =
      eval::compute_metrics(metric_list(setup), values, setup.model.num_labels(), setup.model.is_regression(), labels);
  Json metrics = {{"eval_loss", loss}};
  for (const auto& [name, score] : scores.items()) metrics["eval_" + name] = score;
  return metrics;
}

Json causal_metrics(const Setup& setup) {
  return eval::mean_loss(
      eval::sum_of(predict_losses(setup.model, &setup.adapter, setup.validation,
                                  setup.options.per_device_eval_batch_size, setup.pad_id, setup.pads_left)),
      kLogits);
}

}  // namespace

std::string Setup::chosen_metric() const {
  const std::string name = options.metric_for_best_model.empty() ? best_metric : options.metric_for_best_model;
  return name.rfind("eval_", 0) == 0 ? name.substr(5) : name;
}

void check_setup(const Setup& setup) {
  check_options(setup.options, !setup.validation.empty(), setup.model.is_regression());
  if (setup.train.empty()) {
    throw Error({.id = "config.no-data",
                 .what = "there are no rows to train on",
                 .where = "the training data",
                 .fix = "give train_file, or task_name with dataset_dir"});
  }
  check_rows(setup.model, &setup.adapter, setup.train);
  check_rows(setup.model, &setup.adapter, setup.validation);
  check_labels(setup, setup.train, "training");
  check_labels(setup, setup.validation, "validation");
  if (setup.model.is_causal()) return check_causal_metric(setup.chosen_metric());
  // One row of zeros tells whether every metric exists and fits the task, before hours of training do.
  const int64_t outputs = setup.model.num_labels();
  eval::compute_metrics(metric_list(setup), eval::Values(static_cast<size_t>(outputs)), outputs,
                        setup.model.is_regression(), {0});
}

int64_t formed_bytes(const Adapter& adapter, const TrainOptions& options, const std::vector<int64_t>& lengths) {
  if (lengths.empty()) return 0;
  const int64_t tokens = options.per_device_train_batch_size * *std::max_element(lengths.begin(), lengths.end());
  return FormedWeights::bytes(adapter, tokens, options.gradient_accumulation_steps);
}

bool keeps_formed(int64_t formed_bytes, int64_t memory) {
  constexpr int64_t kShare = 8;
  return formed_bytes > 0 && formed_bytes <= memory / kShare;
}

Json evaluate(const Setup& setup) {
  const auto begin = std::chrono::steady_clock::now();
  Json metrics = setup.model.is_causal() ? causal_metrics(setup) : classifier_metrics(setup);
  const double seconds = seconds_since(begin);
  const auto rows = static_cast<double>(setup.validation.size());
  metrics["eval_runtime"] = seconds;
  metrics["eval_samples_per_second"] = rows / seconds;
  metrics["eval_steps_per_second"] =
      std::ceil(rows / static_cast<double>(setup.options.per_device_eval_batch_size)) / seconds;
  return metrics;
}

}  // namespace deltaw::train

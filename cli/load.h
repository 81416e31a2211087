// From a setup to rows, model and adapter.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deltaw/adapter.h"
#include "deltaw/model.h"
#include "deltaw/task_reader.h"
#include "setup.h"

namespace deltaw::cli {

/// Everything that stands before the first step.
struct Run {
  std::shared_ptr<TaskReader> reader;
  std::unique_ptr<Model> model;
  std::optional<Adapter> adapter;
  std::unique_ptr<Task> task;
  std::vector<std::string> metrics;
  std::string best_metric;
  std::vector<std::string> warnings;  // of the data, one sentence each

  const std::shared_ptr<const RowSource>& train() const { return reader->train(); }
  const std::shared_ptr<const RowSource>& validation() const { return reader->validation(); }  // may have no rows
};

/// Loads it all and settles in `setup` what the data decides: labels, problem type, length, metric.
Run load_run(Setup& setup, const Invocation& invocation);

/// What is about to happen, for people (see preview.h) and for --json.
Json preview(const Setup& setup, const Run& run, int64_t total_steps);

/// Settings that are known to go wrong, one sentence each.
std::vector<std::string> doubts(const Setup& setup, const Run& run);

}  // namespace deltaw::cli

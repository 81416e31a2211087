// What came of the runs of a comparison, setting by setting.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/comparison.h"

namespace deltaw {

/// Some numbers, in short.
struct Spread {
  size_t count = 0;
  double mean = 0;
  std::optional<double> deviation;  // of the sample: squares divided by count - 1; nothing below two
};

/// Nothing of no values.
std::optional<Spread> spread_of(const std::vector<double>& values);

/// One run, and what came of it.
struct CellResult {
  Cell cell;
  std::string state;              // "finished", "failed", "cut" (it can go on) or "open"
  std::string folder = {};        // where it is
  Json results = Json::object();  // of a finished one, in the order of its log
  bool resumed = false;           // its time is that of the last part alone
  std::string problem = {};       // of a failed one
};

/// A line of the table.
struct SettingResult {
  std::string task;
  std::string setting;
  size_t runs = 0;
  size_t finished = 0;
  std::vector<std::optional<Spread>> metrics;  // as TaskResults::metrics
  std::optional<Spread> parameters;            // trained; they differ where data decide on ranks
  std::optional<Spread> seconds;               // of training; of runs in one go
  double peak_bytes = 0;                       // the greatest
};

/// A table.
struct TaskResults {
  std::string task;
  std::vector<std::string> metrics;  // without "eval_"
  std::vector<SettingResult> settings;
};

/// The first score among the results: no loss, no count, no time; "loss" where there is no other, else nothing.
std::optional<std::string> first_metric(const Json& results);

/// Tasks and settings in the order of the cells. `metrics` are shown where a task has them, with "eval_" before the
/// name or without; a task that has none of them shows its metric_for_best_model, else its first.
std::vector<TaskResults> summarise(const std::vector<CellResult>& cells, const std::vector<std::string>& metrics);

/// Those of `metrics` that no finished run has, with "eval_" or without; nothing where none is finished.
std::vector<std::string> missing_metrics(const std::vector<CellResult>& cells, const std::vector<std::string>& metrics);

/// The names of all scores that finished runs have, without "eval_".
std::vector<std::string> known_metrics(const std::vector<CellResult>& cells);

/// Rows of cells of a table: a head, then a line for each setting.
std::vector<std::vector<std::string>> table_rows(const TaskResults& results);

std::string markdown(const std::vector<TaskResults>& tasks);
Json to_json(const std::vector<TaskResults>& tasks, const std::vector<CellResult>& cells);

}  // namespace deltaw

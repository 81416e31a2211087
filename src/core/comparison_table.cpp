#include "core/comparison_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/progress.h"

namespace deltaw {
namespace {

constexpr const char* kPrefix = "eval_";

bool is_no_score(const std::string& name) {
  return name == "loss" || name.ends_with("_runtime") || name.ends_with("_per_second") || name.ends_with("_stderr") ||
         name.ends_with("samples") || name.ends_with("_rows") || name == "runtime";
}

std::string bare(const std::string& metric) {
  return metric.starts_with(kPrefix) ? metric.substr(5) : metric;
}

/// Values of a key over runs that have one.
std::vector<double> values_of(const std::vector<const CellResult*>& runs, const std::string& key) {
  std::vector<double> values;
  for (const CellResult* run : runs) {
    const auto found = run->results.find(key);
    if (found != run->results.end() && found->is_number()) values.push_back(found->get<double>());
  }
  return values;
}

bool has_metric(const std::vector<const CellResult*>& runs, const std::string& metric) {
  return std::any_of(runs.begin(), runs.end(),
                     [&](const CellResult* run) { return run->results.contains(kPrefix + metric); });
}

std::vector<std::string> metrics_of(const std::vector<const CellResult*>& runs, const std::vector<std::string>& asked) {
  std::vector<std::string> shown;
  for (const std::string& metric : asked) {
    if (has_metric(runs, bare(metric))) shown.push_back(bare(metric));
  }
  if (!shown.empty()) return shown;
  for (const CellResult* run : runs) {
    const Json best = run->cell.keys.value("metric_for_best_model", Json());
    if (best.is_string() && has_metric(runs, bare(best))) return {bare(best)};
  }
  for (const CellResult* run : runs) {
    if (const auto first = first_metric(run->results)) return {*first};
  }
  return {};
}

template <class Name>
std::vector<std::string> distinct(const std::vector<const CellResult*>& runs, const Name& name) {
  std::vector<std::string> names;
  for (const CellResult* run : runs) {
    if (std::find(names.begin(), names.end(), name(*run)) == names.end()) names.push_back(name(*run));
  }
  return names;
}

template <class Test>
std::vector<const CellResult*> those(const std::vector<const CellResult*>& runs, const Test& test) {
  std::vector<const CellResult*> some;
  std::copy_if(runs.begin(), runs.end(), std::back_inserter(some), [&](const CellResult* run) { return test(*run); });
  return some;
}

SettingResult summary_of(const std::vector<const CellResult*>& runs, const std::vector<std::string>& metrics) {
  const auto finished = those(runs, [](const CellResult& run) { return run.state == "finished"; });
  const auto in_one_go = those(finished, [](const CellResult& run) { return !run.resumed; });
  SettingResult result{.task = runs.front()->cell.task,
                       .setting = runs.front()->cell.setting,
                       .runs = runs.size(),
                       .finished = finished.size(),
                       .metrics = {},
                       .parameters = spread_of(values_of(finished, "trainable_parameters")),
                       .seconds = spread_of(values_of(in_one_go, "train_runtime"))};
  for (const std::string& metric : metrics) result.metrics.push_back(spread_of(values_of(finished, kPrefix + metric)));
  for (const double bytes : values_of(finished, "peak_memory_bytes")) {
    result.peak_bytes = std::max(result.peak_bytes, bytes);
  }
  return result;
}

std::string mean_text(const std::optional<Spread>& spread) {
  return spread ? fmt::format("{:.4f}", spread->mean) : "-";
}

std::string deviation_text(const std::optional<Spread>& spread) {
  return spread && spread->deviation ? fmt::format("{:.4f}", *spread->deviation) : "-";
}

std::string count_text(const SettingResult& line) {
  if (line.finished == line.runs) return std::to_string(line.runs);
  return fmt::format("{} of {}", line.finished, line.runs);
}

std::string whole_text(const std::optional<Spread>& spread) {
  return spread ? format_count(std::llround(spread->mean)) : "-";
}

std::string seconds_text(const std::optional<Spread>& spread) {
  if (!spread) return "-";
  return spread->mean < 100 ? fmt::format("{:.1f}", spread->mean) : whole_text(spread);
}

Json to_json(const std::optional<Spread>& spread) {
  if (!spread) return nullptr;
  return {{"mean", spread->mean}, {"sd", spread->deviation ? Json(*spread->deviation) : Json()}, {"n", spread->count}};
}

std::string markdown_line(const std::vector<std::string>& cells) {
  std::string line = "|";
  for (std::string cell : cells) {
    for (size_t at = 0; (at = cell.find('|', at)) != std::string::npos; at += 2) cell.insert(at, "\\");
    line += " " + cell + " |";
  }
  return line + "\n";
}

/// Means of every setting on every task, and over the tasks where all are there.
std::string markdown_of_all(const std::vector<TaskResults>& tasks) {
  std::vector<std::string> head = {"setting"};
  for (const TaskResults& task : tasks) head.push_back(task.task);
  head.push_back("mean");
  std::string text = markdown_line(head) + "|---|";
  for (size_t i = 1; i < head.size(); ++i) text += "---|";
  text += "\n";
  for (const SettingResult& first : tasks.front().settings) {
    std::vector<std::string> cells = {first.setting};
    std::vector<double> means;
    for (const TaskResults& task : tasks) {
      const auto found = std::find_if(task.settings.begin(), task.settings.end(),
                                      [&](const SettingResult& line) { return line.setting == first.setting; });
      const bool known = found != task.settings.end() && !found->metrics.empty() && found->metrics.front();
      cells.push_back(known ? mean_text(found->metrics.front()) : "-");
      if (known) means.push_back(found->metrics.front()->mean);
    }
    cells.push_back(means.size() == tasks.size() ? mean_text(spread_of(means)) : "-");
    text += markdown_line(cells);
  }
  return text;
}

}  // namespace

std::optional<Spread> spread_of(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  const auto count = static_cast<double>(values.size());
  Spread spread{.count = values.size(),
                .mean = std::accumulate(values.begin(), values.end(), 0.0) / count,
                .deviation = std::nullopt};
  if (values.size() < 2) return spread;
  double squares = 0;  // of the distances, for which the mean must be known
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / (count - 1));
  return spread;
}

std::optional<std::string> first_metric(const Json& results) {
  for (const auto& [key, value] : results.items()) {
    if (key.starts_with(kPrefix) && value.is_number() && !is_no_score(bare(key))) return bare(key);
  }
  if (results.contains("eval_loss")) return "loss";
  return std::nullopt;
}

std::vector<TaskResults> summarise(const std::vector<CellResult>& cells, const std::vector<std::string>& metrics) {
  std::vector<const CellResult*> all;
  for (const CellResult& cell : cells) all.push_back(&cell);
  std::vector<TaskResults> tasks;
  for (const std::string& task : distinct(all, [](const CellResult& run) { return run.cell.task; })) {
    const auto runs = those(all, [&](const CellResult& run) { return run.cell.task == task; });
    TaskResults results{.task = task, .metrics = metrics_of(runs, metrics), .settings = {}};
    for (const std::string& setting : distinct(runs, [](const CellResult& run) { return run.cell.setting; })) {
      results.settings.push_back(
          summary_of(those(runs, [&](const CellResult& run) { return run.cell.setting == setting; }), results.metrics));
    }
    tasks.push_back(std::move(results));
  }
  return tasks;
}

std::vector<std::string> known_metrics(const std::vector<CellResult>& cells) {
  std::set<std::string> names;
  for (const CellResult& cell : cells) {
    for (const auto& [key, value] : cell.results.items()) {
      if (!key.starts_with(kPrefix) || !(value.is_number() || value.is_null()))
        continue;  // null: it is undefined there
      if (bare(key) == "loss" || !is_no_score(bare(key))) names.insert(bare(key));
    }
  }
  return {names.begin(), names.end()};
}

std::vector<std::string> missing_metrics(const std::vector<CellResult>& cells,
                                         const std::vector<std::string>& metrics) {
  std::vector<const CellResult*> finished;
  for (const CellResult& cell : cells) {
    if (cell.state == "finished") finished.push_back(&cell);
  }
  std::vector<std::string> missing;
  for (const std::string& metric : metrics) {
    if (!finished.empty() && !has_metric(finished, bare(metric))) missing.push_back(metric);
  }
  return missing;
}

std::vector<std::vector<std::string>> table_rows(const TaskResults& results) {
  std::vector<std::string> head = {"setting"};
  for (const std::string& metric : results.metrics) {
    head.push_back(metric);
    head.push_back("sd");
  }
  for (const char* column : {"n", "parameters", "seconds", "memory"}) head.push_back(column);
  std::vector<std::vector<std::string>> rows = {head};
  for (const SettingResult& line : results.settings) {
    std::vector<std::string> row = {line.setting};
    for (const std::optional<Spread>& metric : line.metrics) {
      row.push_back(mean_text(metric));
      row.push_back(deviation_text(metric));
    }
    row.insert(row.end(), {count_text(line), whole_text(line.parameters), seconds_text(line.seconds),
                           line.peak_bytes > 0 ? format_bytes(line.peak_bytes) : "-"});
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string markdown(const std::vector<TaskResults>& tasks) {
  std::string text;
  for (const TaskResults& task : tasks) {
    if (!text.empty()) text += "\n";
    if (!task.task.empty()) text += fmt::format("### {}\n\n", task.task);
    const auto rows = table_rows(task);
    text += markdown_line(rows.front()) + "|---|";
    for (size_t i = 1; i < rows.front().size(); ++i) text += "---|";
    text += "\n";
    for (size_t i = 1; i < rows.size(); ++i) text += markdown_line(rows[i]);
  }
  if (tasks.size() > 1) text += "\n### All\n\n" + markdown_of_all(tasks);
  return text;
}

Json to_json(const std::vector<TaskResults>& tasks, const std::vector<CellResult>& cells) {
  Json lines = Json::array(), runs = Json::array();
  for (const TaskResults& task : tasks) {
    for (const SettingResult& setting : task.settings) {
      Json line = {
          {"task", task.task}, {"setting", setting.setting}, {"runs", setting.runs}, {"finished", setting.finished}};
      for (size_t i = 0; i < task.metrics.size(); ++i) line["metrics"][task.metrics[i]] = to_json(setting.metrics[i]);
      line["trainable_parameters"] = to_json(setting.parameters);
      line["train_runtime"] = to_json(setting.seconds);
      line["peak_memory_bytes"] = setting.peak_bytes > 0 ? Json(static_cast<int64_t>(setting.peak_bytes)) : Json();
      lines.push_back(std::move(line));
    }
  }
  for (const CellResult& run : cells) {
    Json line = {{"task", run.cell.task}, {"setting", run.cell.setting}, {"seed", run.cell.seed},
                 {"state", run.state},    {"folder", run.folder},        {"resumed", run.resumed}};
    if (!run.problem.empty()) line["problem"] = run.problem;
    if (!run.results.empty()) line["results"] = run.results;
    runs.push_back(std::move(line));
  }
  return {{"settings", lines}, {"runs", runs}};
}

}  // namespace deltaw

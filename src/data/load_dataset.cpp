#include <algorithm>

#include <fmt/format.h>

#include "core/ascii.h"
#include "data/choose_labels.h"
#include "data/column_warnings.h"
#include "data/columns.h"
#include "data/find_files.h"
#include "data/glue.h"
#include "data/hold_out.h"
#include "data/labels.h"
#include "data/load_rows.h"
#include "data/no_rows.h"
#include "data/table.h"
#include "deltaw/data.h"
#include "deltaw/error.h"

namespace deltaw {
namespace {

namespace fs = std::filesystem;

const std::string& usual_file(const GlueTask& task) {
  return data::file_of(task, data::files_of(task).train.empty() ? Split::test : Split::train);
}

// The task's own folder, given as it is or as a folder in dataset_dir.
fs::path task_folder(const DataOptions& options, const GlueTask& task) {
  const fs::path root = options.dataset_dir;
  if (fs::is_directory(root / task.folder)) return root / task.folder;
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    const std::string& name = data::file_of(task, split);
    if (!name.empty() && fs::exists(root / name)) return root;
  }
  throw Error{{.id = "config.dataset-dir",
               .what = fmt::format("there is no folder {} and no {} for task {}", (root / task.folder).string(),
                                   usual_file(task), task.name),
               .where = fmt::format("dataset_dir: {}", root.string()),
               .fix = fmt::format("Set dataset_dir to the folder that holds {}/{} as GLUE ships it.", task.folder,
                                  usual_file(task))}};
}

data::Table read_files_of_task(const DataFiles& files, const DataOptions& options) {
  const GlueTask* task = data::task_of(options);
  return data::read_table(files, task != nullptr ? task->columns : std::vector<std::string>{}, options.encoding);
}

/// The files that the options name.
class TextTables final : public data::Tables {
 public:
  explicit TextTables(const DataOptions& options) : options_(options) {}

  bool has(Split split) const override { return split_file(options_, split).has_value(); }

  data::Table read(Split split) const override {
    if (const auto files = split_file(options_, split)) return read_files_of_task(*files, options_);
    const GlueTask* task = data::task_of(options_);
    const std::string name = task == nullptr ? "" : data::file_of(*task, split);
    throw data::no_file(options_, data::option_name(split),
                        name.empty() ? "" : fmt::format("{}/{} as GLUE ships it", task->folder, name));
  }

 private:
  const DataOptions& options_;
};

bool holds_out(const DataOptions& options, const data::Tables& tables) {
  return options.validation_split > 0 && !tables.has(Split::validation);
}

/// Says where labels are no names of the set and were taken as numbers of its classes.
void warn_of_numbers(const data::Table& table, const LabelSet& labels, size_t column, Dataset& dataset) {
  if (labels.regression || labels.multi_label || data::are_default_names(labels.names)) return;
  const bool counted = std::any_of(table.rows.begin(), table.rows.end(), [&](const data::Row& row) {
    return !labels.find_name(trimmed(row.cell(column).text));
  });
  if (!counted) return;
  dataset.warnings.push_back(data::taken_as_classes(table.columns[column], labels.names, table.file));
}

}  // namespace

Dataset data::rows_of(const Table& table, const DataOptions& options, const LabelSet& labels, Labels use) {
  const data::Columns columns = data::choose_columns(options, data::task_of(options), table);
  const size_t text = table.column(columns.text, "text_column");
  const bool pairs = !columns.text_pair.empty();
  const size_t pair = pairs ? table.column(columns.text_pair, "text_pair_column") : 0;
  const bool labelled = use == Labels::needed;
  const size_t label = labelled ? table.column(columns.label, "label_column") : 0;
  Dataset dataset{.file = table.file, .labelled = labelled};
  dataset.rows.reserve(table.rows.size());
  for (const data::Row& row : table.rows) {
    dataset.rows.push_back({.text = data::text_of(table, row, text),
                            .text_pair = pairs ? data::text_of(table, row, pair) : std::string(),
                            .has_pair = pairs,
                            .label = labelled && !labels.multi_label ? data::label_value(labels, table, row, label) : 0,
                            .labels = labelled && labels.multi_label ? data::label_values(labels, table, row, label)
                                                                     : std::vector<double>(),
                            .line = row.line,
                            .id = data::id_of(table, row)});
  }
  if (labelled) warn_of_numbers(table, labels, label, dataset);
  return dataset;
}

std::optional<DataFiles> split_file(const DataOptions& options, Split split) {
  const DataFiles& named = data::files_option(options, split);
  if (!named.empty()) return data::found_files(named, split);
  if (options.dataset_dir.empty()) return std::nullopt;
  const GlueTask* task = data::task_of(options);
  if (task == nullptr) return data::files_of_folder(options.dataset_dir, split);
  const std::string& name = data::file_of(*task, split);
  if (name.empty()) return std::nullopt;
  return DataFiles(task_folder(options, *task) / name);
}

Dataset load_file(const DataFiles& files, const DataOptions& options, const LabelSet& labels, Labels use) {
  return data::rows_of(read_files_of_task(files, options), options, labels, use);
}

Dataset data::split_rows(const DataOptions& options, Split split, const LabelSet& labels, Labels use, uint64_t seed,
                         const Tables& tables) {
  const bool halves = split != Split::test && deltaw::holds_out(options, tables);
  Dataset dataset = rows_of(tables.read(halves ? Split::train : split), options, labels, use);
  if (halves) {
    std::vector<std::string> warnings = dataset.warnings;
    auto [kept, held] = hold_out(std::move(dataset), options.validation_split, seed);
    dataset = std::move(split == Split::train ? kept : held);
    dataset.warnings = std::move(warnings);
  }
  if (split == Split::train) keep_first_rows(dataset, options.max_train_samples);
  if (split == Split::validation) keep_first_rows(dataset, options.max_eval_samples);
  return dataset;
}

Dataset load_split(const DataOptions& options, Split split, const LabelSet& labels, Labels use, uint64_t seed) {
  return data::split_rows(options, split, labels, use, seed, TextTables(options));
}

TrainingData data::training_rows(const DataOptions& options, uint64_t seed, const HeadLabels& head,
                                 const Tables& tables) {
  const Table table = tables.read(Split::train);
  const GlueTask* task = task_of(options);
  const Columns columns = choose_columns(options, task, table);
  TrainingData result;
  result.text_column = columns.text;
  result.text_pair_column = columns.text_pair;
  result.label_column = columns.label;
  const size_t label = table.column(columns.label, "label_column");
  ChosenLabels chosen = choose_labels(options, task, table, label, head);
  result.labels = std::move(chosen.labels);
  result.new_head = chosen.new_head;
  result.warnings = std::move(chosen.warnings);
  if (const auto doubt = column_warning(table, table.column(columns.text, "text_column"), label, result.labels)) {
    result.warnings.push_back(*doubt);
  }
  result.train = rows_of(table, options, result.labels, Labels::needed);
  if (deltaw::holds_out(options, tables)) {
    std::tie(result.train, result.validation) = hold_out(std::move(result.train), options.validation_split, seed);
  } else if (tables.has(Split::validation)) {
    result.validation = rows_of(tables.read(Split::validation), options, result.labels, Labels::needed);
  }
  keep_first_rows(result.validation, options.max_eval_samples);
  keep_first_rows(result.train, options.max_train_samples);
  for (const Dataset* dataset : {&result.train, &result.validation}) {
    for (const std::string& warning : dataset->warnings) result.warnings.push_back(warning);
  }
  return result;
}

TrainingData load_training_data(const DataOptions& options, uint64_t seed, const HeadLabels& head) {
  return data::training_rows(options, seed, head, TextTables(options));
}

std::pair<Dataset, Dataset> hold_out(Dataset dataset, double fraction, uint64_t seed) {
  Dataset kept{.file = dataset.file, .labelled = dataset.labelled};
  Dataset held = kept;
  kept.warnings = std::move(dataset.warnings);  // of the one file they come from
  data::hold_out_rows(dataset, fraction, seed, kept, held);
  return {std::move(kept), std::move(held)};
}

std::vector<std::string> metric_names(const DataOptions& options, const LabelSet& labels) {
  const GlueTask* task = data::task_of(options);
  if (task != nullptr && labels.regression == task->labels.empty()) return task->metrics;
  if (labels.regression) return {"mse", "rmse", "r2", "pearson", "spearmanr"};
  if (labels.multi_label) return {"f1_micro", "f1_macro", "accuracy", "roc_auc"};
  return {"accuracy", "f1", "roc_auc"};
}

}  // namespace deltaw

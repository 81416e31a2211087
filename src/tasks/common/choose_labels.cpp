#include "tasks/common/choose_labels.h"

#include "tasks/common/head_labels.h"

namespace deltaw::tasks {
namespace {

void take_labels_of(const TrainingData& rows, TaskFiles& files) {
  for (const std::string& sentence : rows.warnings) files.warn(sentence);
  files.model.label_names = rows.labels.names;
  files.model.num_labels = rows.labels.outputs();
  files.model.problem_type = rows.labels.problem_type();
}

/// An adapter whose labels have no names may have been trained on a task that gives them.
void name_labels_by_task(TaskFiles& files, const HeadLabels& base) {
  ModelOptions& options = files.model;
  if (files.data.task_name.empty()) return;
  if (has_names(base) && static_cast<int64_t>(base.names.size()) == options.num_labels) return;
  const GlueTask& task = find_glue_task(files.data.task_name);
  if (static_cast<int64_t>(task.labels.size()) == options.num_labels) options.label_names = task.labels;
}

}  // namespace

void choose_labels(TaskFiles& files, const std::string& task_type, const RowsOfTraining& rows_of_training) {
  ModelOptions& options = files.model;
  const DataOptions& data = files.data;
  if (!files.adapters.empty()) options = with_adapter_head(options, files.adapters.front());
  if (data.problem_type != "auto") options.problem_type = data.problem_type;
  if (options.problem_type == "regression") {
    options.label_names.clear();
    options.num_labels = 1;
    return;
  }
  const HeadLabels base = head_of(files.base, options, task_type);
  const HeadLabels head = options.label_names.empty() ? base : HeadLabels{.names = options.label_names, .stored = true};
  if (!data.label_names.empty()) {
    if (const auto sentence = order_warning(data.label_names, head)) files.warn(*sentence);
    options.label_names = data.label_names;
  }
  if (!options.label_names.empty()) return;
  if (!files.adapters.empty()) return name_labels_by_task(files, base);
  if (has_names(base)) return;
  if (const std::optional<TrainingData> rows = rows_of_training(base)) take_labels_of(*rows, files);
}

}  // namespace deltaw::tasks

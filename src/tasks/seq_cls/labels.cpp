#include "tasks/seq_cls/labels.h"

#include "tasks/common/head_labels.h"

namespace deltaw::seq_cls {
namespace {

/// Those of the rows that training would read.
void take_labels_of_rows(TaskFiles& files, const HeadLabels& head) {
  const TrainingData rows = load_training_data(files.data, files.seed, head);
  for (const std::string& sentence : rows.warnings) files.warn(sentence);
  files.model.label_names = rows.labels.names;
  files.model.num_labels = rows.labels.outputs();
  files.model.problem_type = rows.labels.problem_type();
}

/// An adapter whose labels have no names may have been trained on a task that gives them.
void name_labels_by_task(TaskFiles& files, const HeadLabels& base) {
  ModelOptions& options = files.model;
  if (files.data.task_name.empty()) return;
  if (tasks::has_names(base) && static_cast<int64_t>(base.names.size()) == options.num_labels) return;
  const GlueTask& task = find_glue_task(files.data.task_name);
  if (static_cast<int64_t>(task.labels.size()) == options.num_labels) options.label_names = task.labels;
}

}  // namespace

void choose_labels(TaskFiles& files) {
  ModelOptions& options = files.model;
  const DataOptions& data = files.data;
  if (!files.adapters.empty()) options = with_adapter_head(options, files.adapters.front());
  if (data.problem_type != "auto") options.problem_type = data.problem_type;
  if (options.problem_type == "regression") {
    options.label_names.clear();
    options.num_labels = 1;
    return;
  }
  const HeadLabels base = tasks::head_of(files.base, options, "SEQ_CLS");
  const HeadLabels head = options.label_names.empty() ? base : HeadLabels{.names = options.label_names, .stored = true};
  if (!data.label_names.empty()) {
    if (const auto sentence = order_warning(data.label_names, head)) files.warn(*sentence);
    options.label_names = data.label_names;
  }
  if (!options.label_names.empty()) return;
  if (!files.adapters.empty()) return name_labels_by_task(files, base);
  if (!tasks::has_names(base) && split_file(data, Split::train)) take_labels_of_rows(files, base);
}

}  // namespace deltaw::seq_cls

#include "tasks/seq_cls/labels.h"

#include <fmt/format.h>

#include <algorithm>

#include "deltaw/error.h"

namespace deltaw::seq_cls {
namespace {

bool has_names(const HeadLabels& head) {
  return std::none_of(head.names.begin(), head.names.end(),
                      [](const std::string& name) { return name.starts_with("LABEL_"); });
}

[[noreturn]] void refuse(const std::string& key, const Json& asked, const Json& own, const std::string& where) {
  throw Error({.id = "config.conflict",
               .what = fmt::format("{} is {} here and {} in the adapter that training goes on from", key, asked.dump(),
                                   own.dump()),
               .where = where + ", beside 'adapter_name_or_path'",
               .fix = fmt::format("leave {} out, or train a new adapter", key)});
}

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
  if (has_names(base) && static_cast<int64_t>(base.names.size()) == options.num_labels) return;
  const GlueTask& task = find_glue_task(files.data.task_name);
  if (static_cast<int64_t>(task.labels.size()) == options.num_labels) options.label_names = task.labels;
}

}  // namespace

HeadLabels head_of(const std::filesystem::path& folder, const ModelOptions& options) {
  StoredLabels stored = stored_labels(folder.string());
  return {.names = std::move(stored.names), .stored = stored.stored, .replaceable = options.ignore_mismatched_sizes};
}

void inherit_head(TaskFiles& files) {
  files.model = with_adapter_head(files.model, files.adapters.front());
  const ModelOptions& own = files.model;
  DataOptions& data = files.data;
  const std::string& where = files.asked_where;
  if (!own.problem_type.empty()) {
    if (data.problem_type == "auto") data.problem_type = own.problem_type;
    if (data.problem_type != own.problem_type) refuse("problem_type", data.problem_type, own.problem_type, where);
  }
  const bool unnamed = own.label_names.empty() || own.label_names.front().starts_with("LABEL_");
  if (unnamed || data.problem_type == "regression") return;
  if (data.label_names.empty()) data.label_names = own.label_names;
  if (data.label_names != own.label_names) refuse("label_names", Json(data.label_names), Json(own.label_names), where);
}

void check_head_size(const std::filesystem::path& adapter, int64_t outputs) {
  const int64_t own = with_adapter_head({}, adapter).num_labels;
  if (own == 0 || own == outputs) return;
  throw Error({.id = "config.conflict",
               .what = fmt::format("the data has {} labels, and the head of the adapter has {} outputs", outputs, own),
               .where = adapter.string() + ", key 'adapter_name_or_path'",
               .fix = "go on with rows of the same labels, or train a new adapter"});
}

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
  const HeadLabels base = head_of(files.base, options);
  const HeadLabels head = options.label_names.empty() ? base : HeadLabels{.names = options.label_names, .stored = true};
  if (!data.label_names.empty()) {
    if (const auto sentence = order_warning(data.label_names, head)) files.warn(*sentence);
    options.label_names = data.label_names;
  }
  if (!options.label_names.empty()) return;
  if (!files.adapters.empty()) return name_labels_by_task(files, base);
  if (!has_names(base) && split_file(data, Split::train)) take_labels_of_rows(files, base);
}

}  // namespace deltaw::seq_cls

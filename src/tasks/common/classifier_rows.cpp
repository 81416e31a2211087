#include "tasks/common/classifier_rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tasks/common/head_labels.h"
#include "tasks/common/shown.h"

namespace deltaw::tasks {

void ClassifierRows::read(TaskFiles& files, const Load& load) {
  const bool goes_on = !files.adapters.empty();
  if (goes_on) inherit_head(files);
  TrainingData data = load(goes_on ? HeadLabels() : head_of(files.base, files.model, task_));
  if (goes_on) check_head_size(files.adapters.front(), data.labels.outputs());
  take(files, std::move(data));
  settle(files);
}

void ClassifierRows::read_without_head(TaskFiles& files, const Load& load) {
  take(files, load({}));
  files.data.label_column = data_.label_column;
}

void ClassifierRows::take(TaskFiles& files, TrainingData data) {
  data_ = std::move(data);
  labels_ = data_.labels;
  few_shot_.apply(data_.train, labels_, files.seed, data_.warnings);
  for (const std::string& sentence : data_.warnings) files.warn(sentence);
}

void ClassifierRows::settle(TaskFiles& files) const {
  if (files.data.task_name.empty()) files.data.label_column = data_.label_column;
  files.model.new_head = data_.new_head;
  files.data.label_names = labels_.names;
  files.data.problem_type = labels_.problem_type();
  files.model.problem_type = files.data.problem_type;
  files.model.num_labels = labels_.outputs();
  files.model.label_names = labels_.names;
}

void ClassifierRows::begin_asking(const AskedModel& asked, const DataOptions& data) {
  labels_.regression = asked.model.is_regression();
  if (labels_.regression) return;
  labels_ = label_set(data, asked.model.label_names());
  labels_.multi_label = asked.model.is_multi_label();
}

std::string ClassifierRows::label_words(const Example& row) const {
  if (labels_.regression) return Json(row.label).dump();
  if (!labels_.multi_label) return labels_.names[static_cast<size_t>(row.label)];
  std::vector<std::string> names;
  for (size_t i = 0; i < row.labels.size(); ++i) {
    if (row.labels[i] > 0) names.push_back(labels_.names[i]);
  }
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string ClassifierRows::labels_text(const Json& names) {
  return names.empty() ? "         scores\n" : fmt::format("         labels: {}\n", first_words(names, 12));
}

std::string ClassifierRows::load_arguments() const {
  return fmt::format(", num_labels={}", std::max<size_t>(1, labels_.names.size()));
}

}  // namespace deltaw::tasks

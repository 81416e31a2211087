// What readers of classifiers share, whatever they classify: labels, a head that fits them, rows by shots.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/few_shot.h"
#include "deltaw/task_reader.h"

namespace deltaw::tasks {

class ClassifierRows {
 public:
  /// The rows that training reads, for a head with these labels.
  using Load = std::function<TrainingData(const HeadLabels& head)>;

  explicit ClassifierRows(const char* task) : task_(task) {}

  void training_fields(FieldVisitor& f) { few_shot_.fields(f); }

  /// Takes the rows of a run. Labels and the column that they stand in are the run's from here on.
  void read(TaskFiles& files, const Load& load);
  /// The same where the model has no head for labels: what they are follows from the rows alone.
  void read_without_head(TaskFiles& files, const Load& load);
  void begin_asking(const AskedModel& asked, const DataOptions& data);
  void take_labels(LabelSet labels) { labels_ = std::move(labels); }

  const LabelSet& labels() const { return labels_; }
  TrainingData& data() { return data_; }
  const TrainingData& data() const { return data_; }

  /// The names of a row's classes, or its score.
  std::string label_words(const Example& row) const;
  /// The line of labels in a preview.
  static std::string labels_text(const Json& names);
  /// transformers' argument for a head of as many labels.
  std::string load_arguments() const;

 private:
  void take(TaskFiles& files, TrainingData data);
  void settle(TaskFiles& files) const;

  const char* task_;
  data::FewShot few_shot_;
  TrainingData data_;
  LabelSet labels_;
};

}  // namespace deltaw::tasks

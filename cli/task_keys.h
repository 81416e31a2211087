// The keys that tasks have of their own. Which task a run is for is known once its base is; until then all of them are
// read.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltaw/task_reader.h"
#include "options.h"

namespace deltaw::cli {

/// A reader of every task that has one, with what the caller says to it.
class TaskKeys {
 public:
  TaskKeys();

  /// The file's values, then those of the flags.
  void read(const Invocation& invocation);
  void read_training(const Invocation& invocation);
  void read_evaluation(const Invocation& invocation);
  void read_prediction(const Invocation& invocation);

  /// Throws config.no-files for a task that has no reader.
  std::shared_ptr<TaskReader> reader_of(const TaskSpec& task) const;
  /// The keys of a run of that task, with their values; none where the task is not known.
  std::vector<Json> settings(const std::string& task) const;
  /// Key and path of the files that the keys name.
  std::vector<std::pair<std::string, std::string>> named_files() const;
  /// Throws where a key of another task asks for what `task` does not do.
  void refuse_others(const TaskSpec& task, const std::filesystem::path& base) const;

 private:
  std::map<std::string, std::shared_ptr<TaskReader>> readers_;  // by task
};

/// The keys of all tasks, a section for each: of verbs that read rows, with those of training where `trains`; of
/// `eval`; of `predict`.
std::vector<Section> task_sections(bool trains);
std::vector<Section> evaluation_sections();
std::vector<Section> prediction_sections();

/// The keys of a task, but for those of training.
std::vector<std::string> own_keys(const TaskSpec& task);

/// Keys of tasks that an adapter keeps.
std::vector<std::string> kept_task_keys();

/// What help says of the tasks, one after another.
std::string all_words(std::string TaskWords::*words, const std::string& between);

}  // namespace deltaw::cli

// The keys that tasks have of their own. Which task a run is for is known once its base is; until then all of them are
// read.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/given_keys.h"
#include "deltaw/task_reader.h"

namespace deltaw::run {

/// Some of a reader's keys: TaskReader::fields, training_fields, evaluation_fields or prediction_fields.
using TaskPart = void (TaskReader::*)(FieldVisitor&);

Fields fields_of(TaskReader& reader, TaskPart part);

/// A reader of every task that has one, with what the caller says to it.
class TaskKeys {
 public:
  TaskKeys();

  void read(const GivenKeys& given, TaskPart part = &TaskReader::fields);

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

/// The tasks that files can be read for, as help lists them.
std::vector<const TaskSpec*> tasks_with_files();

/// The keys of all of them, one task after another.
std::vector<FieldInfo> task_fields(TaskPart part);

/// The keys of a task, but for those of training.
std::vector<std::string> own_keys(const TaskSpec& task);

/// Keys of tasks that train more than the checkpoint (tasks/common/extends_model.h).
std::vector<std::string> extending_task_keys();

/// Keys of tasks that an adapter keeps.
std::vector<std::string> kept_task_keys();

}  // namespace deltaw::run

#include "run/task_keys.h"

#include <fmt/format.h>

#include "deltaw/error.h"
#include "tasks/common/extends_model.h"

namespace deltaw::run {
namespace {

std::vector<FieldInfo> fields_of_task(const TaskSpec& task, TaskPart part) {
  const auto reader = task.reader();
  return describe_fields(fields_of(*reader, part));
}

}  // namespace

Fields fields_of(TaskReader& reader, TaskPart part) {
  return [&reader, part](FieldVisitor& visitor) { (reader.*part)(visitor); };
}

TaskKeys::TaskKeys() {
  for (const TaskSpec* task : tasks_with_files()) readers_[task->id] = task->reader();
}

void TaskKeys::read(const GivenKeys& given, TaskPart part) {
  for (const auto& [task, reader] : readers_) {
    read_fields(fields_of(*reader, part), given.file, given.file_name);
    read_fields(fields_of(*reader, part), given.flags, given.flags_name);
  }
}

std::shared_ptr<TaskReader> TaskKeys::reader_of(const TaskSpec& task) const {
  const auto found = readers_.find(task.id);
  if (found != readers_.end()) return found->second;
  throw Error({.id = "config.no-files",
               .what = fmt::format("the task {} ({}) has no files to read: a program of its own gives its rows",
                                   task.id, task.title),
               .where = "key \"task_type\"",
               .fix = "name another task, or run the program that has this one"});
}

std::vector<Json> TaskKeys::settings(const std::string& task) const {
  const auto found = readers_.find(task);
  if (found == readers_.end()) return {};
  return {write_fields(fields_of(*found->second, &TaskReader::fields)),
          write_fields(fields_of(*found->second, &TaskReader::training_fields))};
}

std::vector<std::pair<std::string, std::string>> TaskKeys::named_files() const {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& [task, reader] : readers_) {
    for (auto& file : reader->named_files()) files.push_back(std::move(file));
  }
  return files;
}

void TaskKeys::refuse_others(const TaskSpec& task, const std::filesystem::path& base) const {
  for (const auto& [other, reader] : readers_) {
    if (other != task.id) reader->refuse_keys(task, base);
  }
}

std::vector<const TaskSpec*> tasks_with_files() {
  std::vector<const TaskSpec*> tasks = listed_tasks();
  std::erase_if(tasks, [](const TaskSpec* task) { return !task->reader; });
  return tasks;
}

std::vector<FieldInfo> task_fields(TaskPart part) {
  std::vector<FieldInfo> all;
  for (const TaskSpec* task : tasks_with_files()) {
    for (FieldInfo& key : fields_of_task(*task, part)) all.push_back(std::move(key));
  }
  return all;
}

std::vector<std::string> own_keys(const TaskSpec& task) {
  std::vector<std::string> keys;
  if (!task.reader) return keys;
  for (const TaskPart part : {&TaskReader::fields, &TaskReader::evaluation_fields, &TaskReader::prediction_fields}) {
    for (const FieldInfo& key : fields_of_task(task, part)) keys.push_back(key.name);
  }
  return keys;
}

std::vector<std::string> extending_task_keys() {
  std::vector<std::string> keys;
  for (const TaskSpec* task : tasks_with_files()) {
    const auto reader = task->reader();
    const auto* extends = dynamic_cast<const tasks::ExtendsModel*>(reader.get());
    if (!extends) continue;
    for (std::string& key : extends->extending_keys()) keys.push_back(std::move(key));
  }
  return keys;
}

std::vector<std::string> kept_task_keys() {
  std::vector<std::string> keys;
  for (const TaskSpec* task : tasks_with_files()) {
    for (std::string& key : task->reader()->kept_keys()) keys.push_back(std::move(key));
  }
  return keys;
}

}  // namespace deltaw::run
